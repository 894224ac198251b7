//! Reads Rust source just well enough to see which modules and crates it names.

/// The library's modules that a file names: `crate::a`, `crate::{a, b::c}`, and `super::a` where
/// `super` reaches the library's root and one of its `modules`.
pub(super) fn imports(path: &[&str], tokens: &[String], modules: &[&str]) -> Vec<String> {
    let depth = path.iter().filter(|part| **part != "mod").count();
    let mut found = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        match token.as_str() {
            "crate" if at(tokens, index + 1) == "::" => {
                found.extend(heads(&tokens[index + 2..]));
            }
            "super" if index == 0 || at(tokens, index - 1) != "::" => {
                let supers = tokens[index..]
                    .chunks(2)
                    .take_while(|pair| pair[0] == "super" && at(pair, 1) == "::")
                    .count();
                if supers == depth {
                    let named = heads(&tokens[index + 2 * supers..]);
                    // In an inline module, as many `super`s lead elsewhere: only known names count.
                    found.extend(
                        named
                            .into_iter()
                            .filter(|name| modules.contains(&name.as_str())),
                    );
                }
            }
            _ => {}
        }
    }
    found
}

/// The first names of a path or of each member of a `{…}` group.
fn heads(tokens: &[String]) -> Vec<String> {
    if at(tokens, 0) != "{" {
        return tokens.first().cloned().into_iter().collect();
    }
    let mut depth = 0;
    let mut heads = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        let starts = matches!(at(tokens, index.wrapping_sub(1)), "{" | ",");
        match token.as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ if depth == 1 && starts => heads.push(token.clone()),
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    heads
}

/// Whether `word` (`["sqlx"]`, `["Utc", "now"]`) is used as a path, an attribute or a keyword, not
/// as the name of something else.
pub(super) fn mentions(tokens: &[String], word: &[&str]) -> bool {
    (0..tokens.len()).any(|start| {
        let mut expected = word.iter().flat_map(|part| [*part, "::"]).enumerate();
        let length = 2 * word.len() - 1;
        let matches =
            expected.all(|(offset, part)| offset == length || at(tokens, start + offset) == part);
        let (before, after) = (
            at(tokens, start.wrapping_sub(1)),
            at(tokens, start + length),
        );
        let is_type_or_call = word.len() > 1 || word[0].starts_with(char::is_uppercase);
        matches
            && (is_type_or_call
                || word[0] == "async"
                || after == "::"
                || matches!(before, "use" | "["))
    })
}

/// Leaves out what is compiled for tests only.
pub(super) fn without_tests(tokens: &[String]) -> Vec<String> {
    let mut kept = Vec::new();
    let mut index = 0;
    while index < tokens.len() {
        if is_test_attribute(&tokens[index..]) {
            index = after_item(tokens, index);
        } else {
            kept.push(tokens[index].clone());
            index += 1;
        }
    }
    kept
}

/// `#[cfg(test)]` and `#[cfg(all(test, …))]`.
fn is_test_attribute(tokens: &[String]) -> bool {
    let starts = |expected: &[&str]| {
        expected
            .iter()
            .enumerate()
            .all(|(i, part)| at(tokens, i) == *part)
    };
    starts(&["#", "[", "cfg", "(", "test", ")"])
        || starts(&["#", "[", "cfg", "(", "all", "(", "test"])
}

/// The index after the item that starts at `start`, its attributes included.
fn after_item(tokens: &[String], start: usize) -> usize {
    let mut depth = 0_i32;
    for index in start..tokens.len() {
        match at(tokens, index) {
            "{" | "(" | "[" => depth += 1,
            "}" if depth == 1 => return index + 1,
            "}" | ")" | "]" => depth -= 1,
            ";" if depth == 0 => return index + 1,
            _ => {}
        }
    }
    tokens.len()
}

fn at(tokens: &[String], index: usize) -> &str {
    tokens.get(index).map_or("", String::as_str)
}

/// Words and punctuation of Rust source; comments, strings and characters are left out.
pub(super) fn tokens(source: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let skipped = not_code(rest);
        let length = if skipped > 0 {
            skipped
        } else if first.is_alphanumeric() || first == '_' {
            rest.find(|c: char| !c.is_alphanumeric() && c != '_')
                .unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        if skipped == 0 && !first.is_whitespace() {
            tokens.push(rest[..length].to_owned());
        }
        rest = &rest[length..];
    }
    tokens
}

/// The length of the comment or literal that `rest` starts with, or 0.
fn not_code(rest: &str) -> usize {
    let to = |found: Option<usize>, mark: &str| found.map_or(rest.len(), |at| at + mark.len());
    if rest.starts_with("//") {
        return to(rest.find('\n'), "\n");
    }
    if rest.starts_with("/*") {
        return to(rest.find("*/"), "*/");
    }
    let prefix = rest
        .bytes()
        .take_while(|byte| matches!(byte, b'b' | b'c' | b'r'))
        .count();
    let hashes = rest[prefix..]
        .bytes()
        .take_while(|byte| *byte == b'#')
        .count();
    if prefix <= 2 && rest[..prefix].ends_with('r') && rest[prefix + hashes..].starts_with('"') {
        let end = format!("\"{}", "#".repeat(hashes));
        let body = prefix + hashes + 1;
        return to(rest[body..].find(&end).map(|at| at + body), &end);
    }
    if prefix <= 1 && rest[prefix..].starts_with('"') {
        return prefix + quoted(&rest[prefix..]);
    }
    let mut letters = rest.chars();
    match (letters.next(), letters.next(), letters.next()) {
        (Some('\''), Some('\\'), _) => quoted(rest),
        (Some('\''), Some(letter), Some('\'')) => 2 + letter.len_utf8(),
        _ => 0,
    }
}

/// The length of a literal between two of the mark it starts with.
fn quoted(rest: &str) -> usize {
    let bytes = rest.as_bytes();
    let mut index = 1;
    while index < bytes.len() && bytes[index] != bytes[0] {
        index += if bytes[index] == b'\\' { 2 } else { 1 };
    }
    (index + 1).min(bytes.len())
}
