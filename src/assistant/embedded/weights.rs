//! The file that holds the model: whether it is there and whole. A file of the catalogue is known by its SHA-256, which is
//! computed once for each size and time of change and then stands beside it, in `FILE.verified`.

use super::arrival::{self, Arrival};
use super::catalogue::CatalogueModel;
use crate::assistant::{AssistantError, AssistantErrorCode};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::UNIX_EPOCH;

/// How much is read at once while the checksum is computed, in bytes.
const READ_BYTES: usize = 1 << 20;

/// The file of a model, and what is known of it.
#[derive(Debug)]
pub(super) struct Weights {
    path: PathBuf,
    /// The model's name, for people and for the engine.
    name: String,
    /// `None` for a file that the person named, of which nothing is known.
    catalogue: Option<CatalogueModel>,
    /// What the last check in this process found.
    checked: Mutex<Option<(Stamp, bool)>>,
    /// Held while checking, so that a file is read once however many wait for it.
    checking: tokio::sync::Mutex<()>,
}

/// What tells one content of a file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    /// The size in bytes.
    bytes: u64,
    /// The time of the last change, in whole seconds since 1970.
    changed_at: u64,
}

/// What can be told without reading the whole file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// It is what it should be, as far as that can be known.
    Good(Stamp),
    /// Its size is right; its content must be checked first.
    Unchecked(Stamp),
}

impl Weights {
    /// The weights of a model of the catalogue, in the models' directory.
    pub(super) fn of_catalogue(models_dir: &Path, model: CatalogueModel) -> Self {
        Self::new(models_dir.join(&model.file), model.model.clone(), Some(model))
    }

    /// A file that the person named; its model is called as the file is.
    pub(super) fn of_file(path: PathBuf) -> Self {
        let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        Self::new(path, name, None)
    }

    fn new(path: PathBuf, name: String, catalogue: Option<CatalogueModel>) -> Self {
        Self { path, name, catalogue, checked: Mutex::default(), checking: tokio::sync::Mutex::default() }
    }

    /// Where the file is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The model's name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Whether the model is called so.
    pub(super) fn is_named(&self, name: &str) -> bool {
        self.name == name || self.catalogue.as_ref().is_some_and(|model| model.is_named(name))
    }

    /// Whether the model is so small that a person should be told.
    pub(super) fn are_rough(&self) -> bool {
        self.catalogue.as_ref().is_some_and(|model| model.rough)
    }

    /// How far the file is, where a script is fetching it now.
    pub(super) fn arrival(&self) -> Option<Arrival> {
        let model = self.catalogue.as_ref()?;
        arrival::of_weights(&self.path, &self.name, model.bytes)
    }

    /// Looks at the file without reading all of it.
    pub(super) fn look(&self) -> Result<Look, AssistantError> {
        let metadata = match fs::metadata(&self.path) {
            Ok(metadata) if metadata.is_file() => metadata,
            Ok(_) => return Err(self.unreadable("it is no file")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(self.missing()),
            Err(error) => return Err(self.unreadable(&error.to_string())),
        };
        let changed_at = metadata.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let stamp = Stamp { bytes: metadata.len(), changed_at: changed_at.map_or(0, |since| since.as_secs()) };
        let Some(model) = &self.catalogue else { return Ok(Look::Good(stamp)) };
        if stamp.bytes != model.bytes {
            return Err(self.damaged(&format!("{} bytes instead of {}", stamp.bytes, model.bytes)));
        }
        let mut checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        match *checked {
            Some((of, true)) if of == stamp => Ok(Look::Good(stamp)),
            Some((of, false)) if of == stamp => Err(self.damaged("its SHA-256 is wrong")),
            _ if fs::read_to_string(self.note_path())
                .is_ok_and(|note| note.trim_end() == stamp.note(&model.sha256)) =>
            {
                *checked = Some((stamp, true));
                Ok(Look::Good(stamp))
            }
            _ => Ok(Look::Unchecked(stamp)),
        }
    }

    /// Looks at the file and reads it where it was never checked. Returns what it was then.
    pub(super) async fn check(self: &Arc<Self>) -> Result<Stamp, AssistantError> {
        let _checking = self.checking.lock().await;
        let weights = self.clone();
        let checked = tokio::task::spawn_blocking(move || weights.check_now());
        checked.await.unwrap_or_else(|error| Err(self.unreadable(&error.to_string())))
    }

    /// Begins the check, should it be needed and nobody do it.
    pub(super) fn check_in_background(self: &Arc<Self>) {
        if self.checking.try_lock().is_ok() {
            let weights = self.clone();
            tokio::spawn(async move {
                if let Err(error) = weights.check().await {
                    tracing::warn!(%error, "the model inside Verbatim cannot be used");
                }
            });
        }
    }

    fn check_now(&self) -> Result<Stamp, AssistantError> {
        let (stamp, model) = match (self.look()?, &self.catalogue) {
            (Look::Unchecked(stamp), Some(model)) => (stamp, model),
            (Look::Good(stamp) | Look::Unchecked(stamp), _) => return Ok(stamp),
        };
        tracing::info!(model = self.name, "checking the model's file; this is done once");
        let sum = sha256(&self.path).map_err(|error| self.unreadable(&error.to_string()))?;
        let is_good = sum == model.sha256;
        *self.checked.lock().unwrap_or_else(PoisonError::into_inner) = Some((stamp, is_good));
        if !is_good {
            return Err(self.damaged("its SHA-256 is wrong"));
        }
        if let Err(error) = fs::write(self.note_path(), format!("{}\n", stamp.note(&sum))) {
            // Then the next start checks again.
            tracing::debug!(%error, "that the model's file is whole could not be noted beside it");
        }
        Ok(stamp)
    }

    /// Where it is noted that the file was checked.
    fn note_path(&self) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push(".verified");
        path.into()
    }

    fn missing(&self) -> AssistantError {
        let name = &self.name;
        let message = match self.fetch() {
            Some(fetch) => format!(
                "The weights of {name}, the model inside Verbatim, are not on this machine yet: fetch them with {fetch}."
            ),
            None => format!(
                "The file of the model {name} is not there any more. Put it back, or start Verbatim with another --model-file."
            ),
        };
        error(message, "the file is missing")
    }

    fn damaged(&self, cause: &str) -> AssistantError {
        let fetch = self.fetch().unwrap_or_default();
        let message = format!(
            "The weights of {}, the model inside Verbatim, are damaged: fetch them anew with {fetch}.",
            self.name
        );
        error(message, cause)
    }

    fn unreadable(&self, cause: &str) -> AssistantError {
        let message = format!(
            "The file of {}, the model inside Verbatim, cannot be read. Check its permissions; Verbatim's log says more.",
            self.name
        );
        error(message, cause)
    }

    /// The command that fetches the model.
    fn fetch(&self) -> Option<String> {
        let model = self.catalogue.as_ref()?;
        Some(match model.name.as_str() {
            "default" => "make weights".to_owned(),
            name => format!("make weights ARGS={name}"),
        })
    }
}

impl Stamp {
    /// The line beside a file that was checked.
    fn note(self, sha256: &str) -> String {
        format!("{} {} {sha256}", self.bytes, self.changed_at)
    }
}

fn error(message: String, cause: &str) -> AssistantError {
    AssistantError { code: AssistantErrorCode::Unreachable, message, cause: cause.to_owned() }
}

fn sha256(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            length => hash.update(&buffer[..length]),
        }
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use tempfile::TempDir;

    /// A model of the catalogue whose file holds `content`.
    pub(in crate::assistant) fn model_of(content: &[u8]) -> CatalogueModel {
        CatalogueModel {
            name: "tiny".into(),
            model: "Tiny-1B".into(),
            file: "tiny.gguf".into(),
            bytes: content.len() as u64,
            sha256: Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect(),
            rough: true,
        }
    }

    fn weights_in(folder: &TempDir) -> Arc<Weights> {
        Arc::new(Weights::of_catalogue(folder.path(), model_of(b"weights")))
    }

    #[tokio::test]
    async fn a_whole_file_is_read_once() {
        let folder = TempDir::new().unwrap();
        let (file, note) = (folder.path().join("tiny.gguf"), folder.path().join("tiny.gguf.verified"));
        let weights = weights_in(&folder);
        assert!(weights.look().unwrap_err().message.contains("not on this machine yet: fetch them with make weights"));

        fs::write(&file, "weights").unwrap();
        let Look::Unchecked(stamp) = weights.look().unwrap() else { panic!("it was never checked") };
        assert_eq!(weights.check().await, Ok(stamp));
        assert_eq!(weights.look(), Ok(Look::Good(stamp)));
        let sum = model_of(b"weights").sha256;
        assert_eq!(fs::read_to_string(&note).unwrap(), format!("7 {} {sum}\n", stamp.changed_at));

        // Another process believes the note, and no other note than one of this very file.
        assert_eq!(weights_in(&folder).look(), Ok(Look::Good(stamp)));
        for other in [format!("7 {} {sum}", stamp.changed_at - 1), format!("7 {} {}", stamp.changed_at, "0".repeat(64))]
        {
            fs::write(&note, other).unwrap();
            assert_eq!(weights_in(&folder).look(), Ok(Look::Unchecked(stamp)));
        }
        fs::remove_file(&note).unwrap();
        assert_eq!(weights_in(&folder).look(), Ok(Look::Unchecked(stamp)));
    }

    #[tokio::test]
    async fn a_damaged_file_is_told_from_a_missing_one() {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("tiny.gguf");
        let weights = weights_in(&folder);
        for content in ["weight", "weighty"] {
            fs::write(&file, content).unwrap();
            let error = weights.check().await.unwrap_err();
            assert!(error.message.contains("are damaged: fetch them anew with make weights"), "{content}: {error}");
            assert_eq!(weights.look().unwrap_err(), error, "and it is remembered");
        }
        // Whoever puts the right file there is believed without a restart.
        fs::write(&file, "weights").unwrap();
        let before_now = std::time::SystemTime::now() - std::time::Duration::from_secs(60);
        File::options().write(true).open(&file).unwrap().set_modified(before_now).unwrap();
        assert!(weights.check().await.is_ok());
    }

    #[test]
    fn a_named_file_is_called_as_it_is_named() {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("My-Model.Q4.gguf");
        let weights = Weights::of_file(file.clone());
        assert_eq!(weights.name(), "My-Model.Q4");
        let error = weights.look().unwrap_err();
        assert!(error.message.contains("My-Model.Q4") && error.message.contains("--model-file"), "{error}");
        assert!(!error.message.contains(&*folder.path().to_string_lossy()), "no path: {error}");
        fs::write(&file, "any").unwrap();
        assert!(matches!(weights.look(), Ok(Look::Good(_))));
        assert!(!weights.are_rough() && weights.is_named("My-Model.Q4") && !weights.is_named("small"));
    }
}
