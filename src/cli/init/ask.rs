//! The questions of `init`, one line each; an empty answer is "not yet".

use std::io::{BufRead, Write};

use clap::ValueEnum as _;

use super::{Answers, Identity, PresetName};

/// Asks for what was not given.
pub(super) fn ask(
    given: Answers,
    input: &mut impl BufRead,
    output: &mut impl Write,
) -> anyhow::Result<Answers> {
    let mut talk = Talk { input, output };
    talk.say("A few questions; Enter means: not yet. What is missing stands in the files as a comment.\n")?;
    let mut answers = given;
    if answers.bundle_id.is_none() {
        answers.bundle_id = talk.ask("App Store: bundle id of the app (com.example.app)")?;
    }
    if answers.bundle_id.is_some() && answers.app_apple_id.is_none() {
        answers.app_apple_id = talk
            .ask_until("App Store: Apple ID of the app, a number", |text| {
                text.parse().map_err(|_| "digits alone, such as 1234567890")
            })?;
    }
    if answers.package_name.is_none() {
        answers.package_name =
            talk.ask("Google Play: package name of the app (com.example.app)")?;
    }
    if answers.identity.is_none() {
        answers.identity = talk.identity()?;
    }
    if answers.database_url.is_none() {
        answers.database_url = talk.ask("Postgres (postgres://user:password@host/database)")?;
    }
    if answers.public_url.is_none() {
        let question = "Where the stores will reach the server (https://entitled.example.com)";
        answers.public_url =
            talk.ask_until(question, |text| {
                match crate::config::check_public_url(text) {
                    None => Ok(text.to_owned()),
                    Some(_) => Err("an https:// URL without a path of ours"),
                }
            })?;
    }
    talk.say("\n")?;
    Ok(answers)
}

struct Talk<'a, I, O> {
    input: &'a mut I,
    output: &'a mut O,
}

impl<I: BufRead, O: Write> Talk<'_, I, O> {
    fn say(&mut self, text: &str) -> anyhow::Result<()> {
        self.output.write_all(text.as_bytes())?;
        Ok(self.output.flush()?)
    }

    fn ask(&mut self, question: &str) -> anyhow::Result<Option<String>> {
        self.say(&format!("{question}: "))?;
        let mut line = String::new();
        self.input.read_line(&mut line)?;
        let answer = line.trim();
        Ok((!answer.is_empty()).then(|| answer.to_owned()))
    }

    fn ask_until<T>(
        &mut self,
        question: &str,
        read: impl Fn(&str) -> Result<T, &'static str>,
    ) -> anyhow::Result<Option<T>> {
        while let Some(answer) = self.ask(question)? {
            match read(&answer) {
                Ok(value) => return Ok(Some(value)),
                Err(expected) => self.say(&format!("  expected {expected}\n"))?,
            }
        }
        Ok(None)
    }

    fn identity(&mut self) -> anyhow::Result<Option<Identity>> {
        let names: Vec<&str> = PresetName::value_variants()
            .iter()
            .map(|preset| preset.as_str())
            .collect();
        let question = format!("Who signs the app's users in ({})", names.join(", "));
        let preset = self.ask_until(&question, |text| {
            PresetName::from_str(text, true)
                .map_err(|_| "one of these words; oidc fits any OpenID provider")
        })?;
        let Some(preset) = preset else {
            return Ok(None);
        };
        let issuer = match preset {
            PresetName::Apple => None,
            PresetName::Firebase
            | PresetName::Auth0
            | PresetName::Cognito
            | PresetName::Supabase
            | PresetName::Clerk
            | PresetName::Keycloak
            | PresetName::Oidc => self.ask(&format!("  its issuer: {}", preset.issuer_form()))?,
        };
        let audience = match preset.audience_form() {
            Some(form) => self.ask(&format!("  audience of its tokens: {form}"))?,
            None => None,
        };
        let audience = audience.map_or_else(Vec::new, |text| {
            text.split([',', ' '])
                .filter(|part| !part.is_empty())
                .map(str::to_owned)
                .collect()
        });
        Ok(Some(Identity::of(preset, issuer, audience)))
    }
}
