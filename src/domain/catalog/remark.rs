//! What is to be said about a catalog file, and the place in it that it is about.

use toml::de::{DeTable, DeValue};

/// A problem or a doubt, for the file's author.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Remark {
    /// The keys that lead there: `products`, `pro_yearly`. An element of a list is named by its id.
    pub(crate) place: Vec<String>,
    pub(crate) sentence: String,
}

impl Remark {
    pub(crate) fn new(place: &[&str], sentence: impl Into<String>) -> Self {
        Self {
            place: place.iter().map(|key| (*key).to_owned()).collect(),
            sentence: sentence.into(),
        }
    }

    /// The remark behind its line and column in `text`, both counted from 1, as editors do.
    pub(crate) fn located(&self, text: &str) -> String {
        match locate(text, &self.place) {
            Some((line, column)) => format!("line {line}, column {column}: {self}"),
            None => self.to_string(),
        }
    }
}

impl std::fmt::Display for Remark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.place.is_empty() {
            write!(f, "{}: ", self.place.join("."))?;
        }
        f.write_str(&self.sentence)
    }
}

/// Line and column of the deepest key of `place` that the text has.
fn locate(text: &str, place: &[String]) -> Option<(usize, usize)> {
    let document = DeTable::parse(text).ok()?;
    let mut table = document.get_ref();
    let mut found = None;
    let mut keys = place.iter();
    while let Some(key) = keys.next() {
        let Some((name, value)) = table.iter().find(|(name, _)| *name.get_ref() == *key) else {
            break;
        };
        found = Some(name.span().start);
        match value.get_ref() {
            DeValue::Table(inner) => table = inner,
            DeValue::Array(elements) => {
                let Some(id) = keys.next() else { break };
                let Some((at, inner)) = elements.iter().find_map(|element| of_id(element, id))
                else {
                    break;
                };
                found = Some(at);
                table = inner;
            }
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_) => break,
        }
    }
    let before = text.get(..found?)?;
    let line = before.matches('\n').count() + 1;
    let column = before
        .rsplit('\n')
        .next()
        .unwrap_or_default()
        .chars()
        .count()
        + 1;
    Some((line, column))
}

/// An element of a list of tables that carries this id, and where its id stands.
fn of_id<'a, 'i>(
    element: &'a toml::Spanned<DeValue<'i>>,
    id: &str,
) -> Option<(usize, &'a DeTable<'i>)> {
    let DeValue::Table(table) = element.get_ref() else {
        return None;
    };
    let (key, value) = table.iter().find(|(key, _)| key.get_ref() == "id")?;
    let DeValue::String(found) = value.get_ref() else {
        return None;
    };
    (found == id).then_some((key.span().start, table))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remarks_point_at_the_deepest_key_that_is_there() {
        let text = "[[apps]]\nid = \"a\"\n\n[products.pro]\nkind = \"subscription\"\n  grants = []\n\
                    [[offerings]]\nid = \"main\"\n";
        let cases: [(&[&str], &str); 5] = [
            (&["apps", "a"], "line 2, column 1: apps.a: x"),
            (&["products", "pro"], "line 4, column 11: products.pro: x"),
            (
                &["products", "pro", "grants"],
                "line 6, column 3: products.pro.grants: x",
            ),
            (
                &["offerings", "main", "packages"],
                "line 8, column 1: offerings.main.packages: x",
            ),
            (&["entitlements", "e"], "entitlements.e: x"),
        ];
        for (place, expected) in cases {
            assert_eq!(Remark::new(place, "x").located(text), expected);
        }
        assert_eq!(Remark::new(&[], "x").located(text), "x");
    }
}
