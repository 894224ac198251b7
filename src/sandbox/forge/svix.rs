//! The corpus of Superwall's deliveries, as Svix signs them.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::super::Sandbox;
use super::super::jws::machine_seconds;

/// How far a delivery's time may lie from ours.
const TOLERANCE_SECONDS: i64 = 300;
/// Slow machines come to the last of them that much later.
const JUDGED_WITHIN: i64 = 180;

/// A delivery, and whether it is to be believed.
#[derive(Clone, Debug)]
pub struct SvixDelivery {
    /// The class of attack that it is a case of, or whose genuine counterpart it is.
    pub class: &'static str,
    /// What is wrong with it, or what looks wrong and is not.
    pub name: String,
    /// `svix-id`, `svix-timestamp`, `svix-signature` and what else there is.
    pub headers: Vec<(&'static str, String)>,
    /// Exactly what is sent.
    pub body: Vec<u8>,
    /// Whether it must be accepted.
    pub genuine: bool,
}

/// Deliveries of `body`, right and wrong, each under an id that begins with `prefix`.
pub fn svix_corpus(sandbox: &Sandbox, prefix: &str, body: &str) -> Vec<SvixDelivery> {
    let secret = sandbox.manifest().superwall.secret;
    let forge = Forge {
        key: secret_bytes(&secret),
        prefix: prefix.to_owned(),
        body: body.to_owned(),
        now: machine_seconds(),
    };
    let mut all = forge.signatures();
    all.extend(forge.bodies());
    all.extend(forge.moments());
    all.extend(forge.names());
    all
}

fn secret_bytes(secret: &str) -> Vec<u8> {
    let encoded = secret.strip_prefix("whsec_").unwrap_or(secret);
    STANDARD.decode(encoded).unwrap_or_default()
}

fn sign(key: &[u8], id: &str, stamp: &str, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    let message = [id.as_bytes(), b".", stamp.as_bytes(), b".", body].concat();
    STANDARD.encode(hmac::sign(&key, &message))
}

struct Forge {
    key: Vec<u8>,
    prefix: String,
    body: String,
    now: i64,
}

impl Forge {
    fn id(&self, name: &str) -> String {
        let word: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
        format!("{}_{word}", self.prefix)
    }

    fn good(&self, id: &str) -> String {
        sign(&self.key, id, &self.now.to_string(), self.body.as_bytes())
    }

    fn delivery(
        &self,
        class: &'static str,
        name: &str,
        genuine: bool,
        signature: impl FnOnce(&str) -> String,
    ) -> SvixDelivery {
        let id = self.id(name);
        let signature = signature(&id);
        SvixDelivery {
            class,
            name: name.to_owned(),
            headers: vec![
                ("svix-id", id),
                ("svix-timestamp", self.now.to_string()),
                ("svix-signature", signature),
            ],
            body: self.body.clone().into_bytes(),
            genuine,
        }
    }

    /// C1: what stands in the signature's header.
    fn signatures(&self) -> Vec<SvixDelivery> {
        let c1 = |name: &str, genuine, signature: &dyn Fn(&str) -> String| {
            self.delivery("C1", name, genuine, signature)
        };
        let junk = format!("v1,{}", STANDARD.encode([7_u8; 32]));
        let mut all = vec![
            c1("as Superwall sends it", true, &|id| {
                format!("v1,{}", self.good(id))
            }),
            c1("the good one after another secret's", true, &|id| {
                format!("{junk} v1,{}", self.good(id))
            }),
            c1("the good one before an asymmetric one", true, &|id| {
                format!("v1,{} v1a,AAAA", self.good(id))
            }),
            c1("the good one in sixteenth place", true, &|id| {
                format!("{}v1,{}", format!("{junk} ").repeat(15), self.good(id))
            }),
            c1("empty", false, &|_| String::new()),
            c1("only a prefix", false, &|_| "v1,".to_owned()),
            c1("only a version", false, &|_| "v1".to_owned()),
            c1("without a version", false, &|id| self.good(id)),
            c1("version 0", false, &|id| format!("v0,{}", self.good(id))),
            c1("version 2", false, &|id| format!("v2,{}", self.good(id))),
            c1("version in capitals", false, &|id| {
                format!("V1,{}", self.good(id))
            }),
            c1("as if it were asymmetric", false, &|id| {
                format!("v1a,{}", self.good(id))
            }),
            c1("with a colon", false, &|id| format!("v1:{}", self.good(id))),
            c1("with a byte too many", false, &|id| {
                format!("v1,{}A", self.good(id))
            }),
            c1("in hexadecimal", false, &|id| {
                let bytes = STANDARD.decode(self.good(id)).unwrap_or_default();
                let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                format!("v1,{hex}")
            }),
            c1("by another secret", false, &|id| {
                format!(
                    "v1,{}",
                    sign(
                        b"another secret of 24 byt",
                        id,
                        &self.now.to_string(),
                        self.body.as_bytes()
                    )
                )
            }),
            c1("by an empty secret", false, &|id| {
                format!(
                    "v1,{}",
                    sign(b"", id, &self.now.to_string(), self.body.as_bytes())
                )
            }),
            c1("of another id", false, &|_| {
                format!("v1,{}", self.good("msg_another"))
            }),
            c1("of the body alone", false, &|_| {
                let key = hmac::Key::new(hmac::HMAC_SHA256, &self.key);
                format!(
                    "v1,{}",
                    STANDARD.encode(hmac::sign(&key, self.body.as_bytes()))
                )
            }),
            c1("the good one behind ten thousand others", false, &|id| {
                format!("{}v1,{}", "v1,A ".repeat(2_000), self.good(id))
            }),
        ];
        // Short of the whole, of every length: what a comparison up to the shorter one lets pass.
        for length in 0..43 {
            all.push(self.delivery(
                "C1",
                &format!("the first {length} characters"),
                false,
                |id| format!("v1,{}", self.good(id).get(..length).unwrap_or_default()),
            ));
        }
        all
    }

    /// C2: the body is another than the one that was signed.
    fn bodies(&self) -> Vec<SvixDelivery> {
        let sent = |name: &str, body: Vec<u8>| SvixDelivery {
            body,
            ..self.delivery("C2", name, false, |id| format!("v1,{}", self.good(id)))
        };
        let body = self.body.as_bytes();
        let changed = self.body.replacen('{', r#"{"type":"another","#, 1);
        let encoded = |coding: &str| {
            let mut delivery =
                self.delivery("C2", coding, false, |id| format!("v1,{}", self.good(id)));
            delivery
                .headers
                .push(("content-encoding", coding.to_owned()));
            delivery
        };
        vec![
            sent("a space before it", [b" ", body].concat()),
            sent("a line end after it", [body, b"\n"].concat()),
            sent(
                "a byte order mark before it",
                ["\u{feff}".as_bytes(), body].concat(),
            ),
            sent("written without spaces", {
                let value: Option<serde_json::Value> = serde_json::from_str(&self.body).ok();
                let text = value.map(|value| format!("{value} ")).unwrap_or_default();
                text.into_bytes()
            }),
            sent("a key given twice", changed.into_bytes()),
            sent("empty", Vec::new()),
            sent(
                "cut in half",
                body.get(..body.len() / 2).unwrap_or_default().to_vec(),
            ),
            sent(
                "in UTF-16",
                self.body
                    .encode_utf16()
                    .flat_map(u16::to_le_bytes)
                    .collect(),
            ),
            encoded("gzip"),
            encoded("identity, gzip"),
        ]
    }

    /// C3: when it says it was sent. All are signed by the true secret.
    fn moments(&self) -> Vec<SvixDelivery> {
        let at = |name: &str, stamp: String, genuine| {
            let id = self.id(name);
            let signature = sign(&self.key, &id, &stamp, self.body.as_bytes());
            SvixDelivery {
                class: "C3",
                name: name.to_owned(),
                headers: vec![
                    ("svix-id", id),
                    ("svix-timestamp", stamp),
                    ("svix-signature", format!("v1,{signature}")),
                ],
                body: self.body.clone().into_bytes(),
                genuine,
            }
        };
        let now = self.now;
        vec![
            at(
                "almost too old",
                (now - TOLERANCE_SECONDS + JUDGED_WITHIN).to_string(),
                true,
            ),
            at(
                "almost too new",
                (now + TOLERANCE_SECONDS - 20).to_string(),
                true,
            ),
            at("too old", (now - TOLERANCE_SECONDS - 5).to_string(), false),
            at(
                "too new",
                (now + TOLERANCE_SECONDS + JUDGED_WITHIN).to_string(),
                false,
            ),
            at("a day old", (now - 86_400).to_string(), false),
            at("in milliseconds", (now * 1_000).to_string(), false),
            at("below zero", format!("-{now}"), false),
            at("with a sign", format!("+{now}"), false),
            at("with a fraction", format!("{now}.0"), false),
            at("with a space", format!("{now} 1"), false),
            at("in hexadecimal", format!("0x{now:x}"), false),
            at("beyond all numbers", "9".repeat(40), false),
            at("zero", "0".to_owned(), false),
            at("no number", "now".to_owned(), false),
            at("empty", String::new(), false),
            at("an exponent", format!("{now}e0"), false),
        ]
    }

    /// C1 again: headers that are missing.
    fn names(&self) -> Vec<SvixDelivery> {
        let without = |missing: &str| {
            let mut delivery = self.delivery("C1", &format!("no {missing}"), false, |id| {
                format!("v1,{}", self.good(id))
            });
            delivery.headers.retain(|(name, _)| *name != missing);
            delivery
        };
        let webhook = {
            let mut delivery = self.delivery("C1", "under the standard's names", true, |id| {
                format!("v1,{}", self.good(id))
            });
            for (name, _) in &mut delivery.headers {
                *name = match *name {
                    "svix-id" => "webhook-id",
                    "svix-timestamp" => "webhook-timestamp",
                    _ => "webhook-signature",
                };
            }
            delivery
        };
        vec![
            without("svix-id"),
            without("svix-timestamp"),
            without("svix-signature"),
            webhook,
        ]
    }
}
