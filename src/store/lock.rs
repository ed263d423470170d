//! One server process per data directory.

use super::StoreError;
use super::disk::has_no_room;
use super::layout::Layout;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;

/// The hold on a data directory; it ends with the value, and with the process however that ends.
#[derive(Debug)]
pub struct DirectoryLock {
    _file: File,
}

impl DirectoryLock {
    /// Takes the hold. [`StoreError::Unwritable`] if another process has it or the lock file cannot be made; the text is for the
    /// person who started the server.
    pub fn take(layout: &Layout) -> Result<Self, StoreError> {
        let directory = layout.root().display();
        let no_file = || {
            StoreError::Unwritable(format!(
                "{} is no plain file. Move it away; a new one is made at the start.",
                layout.lock().display()
            ))
        };
        if layout.lock().symlink_metadata().is_ok_and(|found| !found.is_file()) {
            return Err(no_file());
        }
        let file = open(layout).map_err(|error| {
            StoreError::Unwritable(format!(
                "The data directory {directory} cannot be written to ({error}). Change its permissions or name another \
                 one with --data-dir."
            ))
        })?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(StoreError::Unwritable(format!(
                "Another Verbatim is using the data directory {directory}. Stop it first, or name another directory with \
                 --data-dir."
            ))),
            Err(TryLockError::Error(error)) => Err(StoreError::Unwritable(format!(
                "The data directory {directory} cannot be locked ({error}). Name one on a local disk with --data-dir."
            ))),
        }
    }
}

/// Opens what is to be locked. On a disk on which nothing can be made that is the file as it is, or the directory itself.
fn open(layout: &Layout) -> io::Result<File> {
    // A pipe that somebody puts there in this moment is not waited for.
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let made =
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).custom_flags(flags).open(layout.lock());
    match made {
        Err(error) if has_no_room(&error) => {
            OpenOptions::new().read(true).custom_flags(flags).open(layout.lock()).or_else(|error| {
                if error.kind() == io::ErrorKind::NotFound { File::open(layout.root()) } else { Err(error) }
            })
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_holds_a_directory() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path());
        let first = DirectoryLock::take(&layout).unwrap();
        let error = DirectoryLock::take(&layout).unwrap_err();
        assert!(matches!(&error, StoreError::Unwritable(text) if text.contains("Another Verbatim")), "{error}");
        drop(first);
        DirectoryLock::take(&layout).unwrap();
    }
}
