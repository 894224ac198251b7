//! Every command of operators reaches a server; those that do not are few, and each has a reason.

use std::collections::BTreeSet;

use clap::{Command, CommandFactory as _};

use super::Cli;

/// Commands that are about the machine on which they run: its processes, files and database.
const OF_THE_HOST: &[(&str, &str)] = &[
    ("start", "is the server"),
    ("serve", "is the server"),
    ("webhooks", "is the server"),
    ("worker", "is the server"),
    ("migrate", "makes the database that servers need to run"),
    ("init", "writes the files that servers start with"),
    ("setup apple", "prints what a configuration file says"),
    ("setup google", "prints what a configuration file says"),
    (
        "doctor",
        "looks at the configuration, where servers may not run",
    ),
    (
        "backfill",
        "goes with restoring the database, before servers run",
    ),
    ("retention", "is the upkeep of the database"),
    ("encryption new-key", "makes a key file"),
    (
        "encryption status",
        "needs the keys, which no server hands out",
    ),
    (
        "encryption seal",
        "needs the keys, which no server hands out",
    ),
    (
        "encryption rotate",
        "needs the keys, which no server hands out",
    ),
    (
        "encryption abandon",
        "needs the keys, which no server hands out",
    ),
    ("catalog check", "reads a file and nothing else"),
    ("inspect apple-jws", "reads a document and nothing else"),
    ("inspect rtdn", "reads a document and nothing else"),
    ("inspect corpus", "reads documents and nothing else"),
    ("inspect timing", "measures this machine"),
    ("openapi", "prints what this version serves"),
    ("demo", "runs a stack of its own"),
    ("dev", "runs a stack of its own"),
    ("prove", "runs stacks of its own"),
    ("sandbox", "is the store simulator"),
    ("sandbox run", "plays stores for a server"),
];

/// What an app, its user or a simulated store does, with the user's token or at the `dev` stack.
const OF_USERS: &[&str] = &[
    "token",
    "watch",
    "get",
    "buy",
    "restore",
    "preflight",
    "advance",
    "refund",
];

/// What every command of operators has: where the server is, and who one is there.
const WAY: [&str; 3] = ["server", "key_file", "ca_file"];

/// Every command that can be run, by its words.
fn runnable(command: &Command, words: &str, found: &mut Vec<(String, Command)>) {
    let mut inner = command.get_subcommands().peekable();
    if inner.peek().is_none() || !command.is_subcommand_required_set() {
        found.push((words.to_owned(), command.clone()));
    }
    for inner in inner {
        let name = format!("{words} {}", inner.get_name());
        runnable(inner, name.trim_start(), found);
    }
}

fn commands() -> Vec<(String, Command)> {
    let mut found = Vec::new();
    for command in Cli::command().get_subcommands() {
        runnable(command, command.get_name(), &mut found);
    }
    found
}

fn has(command: &Command, argument: &str) -> bool {
    command
        .get_arguments()
        .any(|known| known.get_id() == argument)
}

#[test]
fn every_command_of_operators_reaches_a_server() {
    let commands = commands();
    assert!(commands.len() > 40, "{}", commands.len());
    for (words, command) in &commands {
        let of_the_host = OF_THE_HOST.iter().any(|(known, _)| known == words);
        let of_users = OF_USERS.contains(&words.as_str());
        let way = WAY.map(|argument| has(command, argument));
        assert!(!(of_the_host && of_users), "{words} is in both lists");
        if of_the_host || of_users {
            assert!(
                !way[1],
                "{words} takes an operator's key: take it off the list"
            );
        } else {
            assert_eq!(
                way, [true; 3],
                "`entitled {words}` works on the database host alone: open a `Source` \
                 (src/cli/source.rs), or say here why it is about the host"
            );
        }
    }
    let known: BTreeSet<&str> = commands.iter().map(|(words, _)| words.as_str()).collect();
    let listed = OF_THE_HOST.iter().map(|(words, _)| words).chain(OF_USERS);
    for words in listed {
        assert!(known.contains(words), "there is no command `{words}`");
    }
}

/// `--help` of each says both places.
#[test]
fn the_help_of_operators_commands_names_the_server_and_the_configuration() {
    for (words, mut command) in commands() {
        if has(&command, "key_file") {
            let help = command.render_long_help().to_string();
            for told in ["--server", "--key-file", "ENTITLED_KEY", "--config"] {
                assert!(help.contains(told), "{words}: {told}");
            }
        }
    }
}
