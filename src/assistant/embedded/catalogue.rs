//! The models that can be fetched for the embedded assistant: `engine/models.json`, which the scripts read too.

use serde::Deserialize;
use std::sync::LazyLock;

/// A model of the catalogue.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct CatalogueModel {
    /// What `--model` calls it for short: `default`, `small`.
    pub name: String,
    /// The model's own name.
    pub model: String,
    /// The name of its file in the models' directory.
    pub file: String,
    /// The size of that file.
    pub bytes: u64,
    /// The SHA-256 of that file, in hexadecimal small letters.
    pub sha256: String,
    /// Whether it is so small that a person should be told.
    #[serde(default)]
    pub rough: bool,
}

static CATALOGUE: LazyLock<Vec<CatalogueModel>> = LazyLock::new(|| {
    // A test reads it, so that it cannot be wrong here.
    serde_json::from_str(include_str!("../../../engine/models.json")).unwrap_or_default()
});

/// All models of the catalogue, the default one first.
pub fn all() -> &'static [CatalogueModel] {
    &CATALOGUE
}

/// The model of this short or own name, in any case of letters.
pub fn find(name: &str) -> Option<&'static CatalogueModel> {
    all().iter().find(|model| model.is_named(name))
}

impl CatalogueModel {
    /// Whether this is its short or its own name, in any case of letters.
    pub fn is_named(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name) || self.model.eq_ignore_ascii_case(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn the_catalogue_is_well_formed() {
        let parsed: Vec<CatalogueModel> =
            serde_json::from_str(include_str!("../../../engine/models.json")).expect("engine/models.json");
        assert_eq!(parsed, all());
        assert_eq!(all()[0].name, "default");
        let mut seen = HashSet::new();
        for model in all() {
            for name in [&model.name, &model.model, &model.file] {
                assert!(seen.insert(name.to_lowercase()), "{name} stands there twice");
            }
            assert!(!model.file.contains('/') && model.file.ends_with(".gguf"), "{model:?}");
            assert!(model.bytes > 1_000_000, "{model:?}");
            let is_hex = |digit: char| digit.is_ascii_digit() || ('a'..='f').contains(&digit);
            assert!(model.sha256.len() == 64 && model.sha256.chars().all(is_hex), "{model:?}");
            assert_eq!(find(&model.name), Some(model));
            assert_eq!(find(&model.model.to_uppercase()), Some(model));
        }
        assert!(find("small").is_some_and(|small| small.rough));
        assert_eq!(find("gpt-4"), None);
    }
}
