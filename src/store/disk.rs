//! The few operations on files that the document writer needs, so that it can be tried on a disk that loses power.

#[cfg(test)]
pub mod simulated;

use chrono::{DateTime, Utc};
use std::fs::{DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// What tells one state of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Which file it is; a renamed-over path has another one.
    pub inode: u64,
    /// Its size in bytes.
    pub size: u64,
    /// When its content was last changed, in nanoseconds since 1970.
    pub modified: i128,
}

impl Stamp {
    /// The stamp that a file's metadata give.
    pub fn of(metadata: &Metadata) -> Self {
        Self {
            inode: metadata.ino(),
            size: metadata.size(),
            modified: i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec()),
        }
    }

    /// When the content was last changed, to the microsecond.
    pub fn modified_at(&self) -> DateTime<Utc> {
        i64::try_from(self.modified / 1000)
            .ok()
            .and_then(DateTime::from_timestamp_micros)
            .unwrap_or(DateTime::UNIX_EPOCH)
    }
}

/// A disk. Nothing written is safe before `sync` of the file and, for names, `sync_folder`.
pub trait Disk: Send + Sync {
    /// A file's bytes and the state in which it was while they were read.
    fn read(&self, path: &Path) -> io::Result<(Vec<u8>, Stamp)>;

    /// A file's state.
    fn stamp(&self, path: &Path) -> io::Result<Stamp>;

    /// Opens a file that exists, for writing.
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Makes a file that does not exist yet.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Makes a folder, and says whether it was not there already.
    fn create_folder(&self, path: &Path) -> io::Result<bool>;

    /// Gives a file another name, in place of a file that has it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a folder survive a power loss.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;
}

/// A file that is open for writing.
pub trait DiskFile {
    /// Its state.
    fn stamp(&self) -> io::Result<Stamp>;

    /// Writes all bytes from an offset on.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Cuts it or fills it up with zeros.
    fn set_len(&mut self, size: u64) -> io::Result<()>;

    /// Makes its content and size survive a power loss.
    fn sync(&mut self) -> io::Result<()>;
}

/// How often a file is read again that changes while it is read.
const READ_ATTEMPTS: usize = 4;

/// The file system, below one folder. Symbolic links below that folder are not followed.
#[derive(Clone, Debug)]
pub struct RealDisk {
    root: PathBuf,
}

impl RealDisk {
    /// The file system below `root`; `root` itself may be a link.
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// Refuses a path that leads through a link or lies elsewhere. The last component is guarded by `O_NOFOLLOW`.
    fn check(&self, path: &Path) -> io::Result<()> {
        if !path.starts_with(&self.root) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path is outside the data directory"));
        }
        for folder in path.ancestors().skip(1).take_while(|folder| *folder != self.root) {
            if !folder.symlink_metadata()?.is_dir() {
                return Err(io::Error::new(
                    io::ErrorKind::NotADirectory,
                    format!("{} is a link or a file where a folder belongs", folder.display()),
                ));
            }
        }
        Ok(())
    }

    /// Opens for reading; `O_NONBLOCK` so that a pipe that somebody put there cannot hold the caller.
    pub fn open_to_read(&self, path: &Path) -> io::Result<File> {
        self.check(path)?;
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
        regular(file)
    }
}

impl Disk for RealDisk {
    fn read(&self, path: &Path) -> io::Result<(Vec<u8>, Stamp)> {
        for _ in 0..READ_ATTEMPTS {
            let mut file = self.open_to_read(path)?;
            let before = Stamp::of(&file.metadata()?);
            let mut bytes = Vec::with_capacity(usize::try_from(before.size).unwrap_or(0).saturating_add(1));
            file.read_to_end(&mut bytes)?;
            let after = Stamp::of(&file.metadata()?);
            if before == after && bytes.len() as u64 == after.size {
                return Ok((bytes, after));
            }
        }
        Err(io::Error::new(io::ErrorKind::ResourceBusy, "the file keeps changing while it is read"))
    }

    fn stamp(&self, path: &Path) -> io::Result<Stamp> {
        self.check(path)?;
        let metadata = path.symlink_metadata()?;
        if metadata.is_file() { Ok(Stamp::of(&metadata)) } else { Err(not_regular()) }
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.check(path)?;
        let file = OpenOptions::new().write(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
        Ok(Box::new(RealFile(regular(file)?)))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.check(path)?;
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        Ok(Box::new(RealFile(file)))
    }

    fn create_folder(&self, path: &Path) -> io::Result<bool> {
        self.check(path)?;
        match DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.check(&path.join("file"))?;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.check(from)?;
        self.check(to)?;
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.check(path)?;
        std::fs::remove_file(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        if path != self.root {
            self.check(&path.join("file"))?;
        }
        File::open(path)?.sync_all()
    }
}

struct RealFile(File);

impl DiskFile for RealFile {
    fn stamp(&self) -> io::Result<Stamp> {
        Ok(Stamp::of(&self.0.metadata()?))
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn set_len(&mut self, size: u64) -> io::Result<()> {
        self.0.set_len(size)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_data()
    }
}

fn regular(file: File) -> io::Result<File> {
    if file.metadata()?.is_file() { Ok(file) } else { Err(not_regular()) }
}

fn not_regular() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_below_the_root_are_not_followed() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret.json"), "{}").unwrap();
        let inside = tempfile::tempdir().unwrap();
        let disk = RealDisk::new(inside.path());
        symlink(outside.path(), inside.path().join("folder")).unwrap();
        symlink(outside.path().join("secret.json"), inside.path().join("file.json")).unwrap();
        for path in ["folder/secret.json", "file.json"] {
            let path = inside.path().join(path);
            assert!(disk.read(&path).is_err(), "{path:?}");
            assert!(disk.stamp(&path).is_err(), "{path:?}");
            assert!(disk.open(&path).is_err(), "{path:?}");
        }
        assert!(disk.create(&inside.path().join("folder/new.json")).is_err());
        assert!(disk.create_folder(&inside.path().join("folder")).is_err());
        assert!(disk.read(&outside.path().join("secret.json")).is_err());
        std::fs::write(inside.path().join("plain.json"), "{}").unwrap();
        assert_eq!(disk.read(&inside.path().join("plain.json")).unwrap().0, b"{}");
    }
}
