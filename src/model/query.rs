//! What a person types into the search box.

/// A parsed search: a session is found when every word stands somewhere in it, letter case aside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// The words, in lower case, each once.
    pub words: Vec<String>,
}

impl Query {
    /// Reads a search text.
    pub fn parse(text: &str) -> Self {
        let mut words: Vec<String> = Vec::new();
        for word in text.split_whitespace().map(str::to_lowercase) {
            if !words.contains(&word) {
                words.push(word);
            }
        }
        Self { words }
    }

    /// Whether it asks for nothing, and so finds everything.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }
}
