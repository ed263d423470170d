//! The few operations on files that the document writer needs, so that it can be tried on a disk that loses power.

#[cfg(test)]
pub mod simulated;

use chrono::{DateTime, Utc};
use std::fs::{DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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

    /// How many names a file has: whoever writes into one that has several changes what another name shows.
    fn links(&self, path: &Path) -> io::Result<u64>;

    /// How many bytes a file may have at most; a larger one is not read, and none is made larger.
    fn largest_file(&self) -> u64;
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

/// How many bytes are read in one go. Memory is taken for what was read, never for what a file says that it holds.
const PIECE_BYTES: usize = 1024 * 1024;

/// A piece of a hole.
static ZEROS: [u8; PIECE_BYTES] = [0; PIECE_BYTES];

/// How many bytes a session file has at most where nothing else is said.
pub const LARGEST_FILE: u64 = 4 * 1024 * 1024 * 1024;

/// The file system, below one folder. Symbolic links below that folder are not followed.
#[derive(Clone, Debug)]
pub struct RealDisk {
    root: PathBuf,
    largest_file: u64,
    /// Whether an option says so.
    is_limited_by_option: bool,
    /// Whether reading is to end.
    interrupted: Arc<AtomicBool>,
}

impl RealDisk {
    /// The file system below `root`, with the usual limit.
    #[cfg(test)]
    pub fn new(root: &Path) -> Self {
        Self::with_largest_file(root, LARGEST_FILE)
    }

    /// The file system below `root` with files of so many bytes at most; `root` itself may be a link.
    pub fn with_largest_file(root: &Path, largest_file: u64) -> Self {
        Self { root: root.to_owned(), largest_file, is_limited_by_option: true, interrupted: Arc::default() }
    }

    /// The same disk with the limit that holds for files which no option limits. It is not less than what an option allows others.
    pub fn without_option(&self) -> Self {
        let largest_file = self.largest_file.max(LARGEST_FILE);
        Self { largest_file, is_limited_by_option: false, ..self.clone() }
    }

    /// The same disk for somebody whose reading can be ended for himself.
    pub fn interruptible(&self) -> Self {
        Self { interrupted: Arc::default(), ..self.clone() }
    }

    /// Ends what is being read on this disk and its clones, and lets nothing be read any more.
    pub fn interrupt(&self) {
        self.interrupted.store(true, Ordering::Relaxed);
    }

    /// Reads a file to its end and says how many bytes it had. Where a file holds more than a piece of zeros, as holes do and
    /// places to which a crash left nothing written, only one piece of them is returned.
    fn read_pieces(&self, file: &mut File, expected: u64) -> io::Result<(Vec<u8>, u64)> {
        let mut bytes = Vec::with_capacity(usize::try_from(expected).unwrap_or(PIECE_BYTES).min(PIECE_BYTES) + 1);
        let (mut size, mut was_hole) = (0u64, false);
        loop {
            if self.interrupted.load(Ordering::Relaxed) {
                return Err(io::Error::other("it was not read to its end, because the server stops"));
            }
            let start = bytes.len();
            let read = file.by_ref().take(PIECE_BYTES as u64).read_to_end(&mut bytes)?;
            size = size.saturating_add(read as u64);
            if size > self.largest_file {
                return Err(self.too_large());
            }
            let piece = &bytes[start..];
            if start == 0 && read == PIECE_BYTES && !piece.contains(&b'{') {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "it is no JSON: it does not begin like any"));
            }
            if read < PIECE_BYTES {
                return Ok((bytes, size));
            }
            let is_hole = piece == ZEROS;
            if is_hole && was_hole {
                bytes.truncate(start);
            }
            was_hole = is_hole;
        }
    }

    fn too_large(&self) -> io::Error {
        let limit = self.largest_file / (1024 * 1024);
        let option = if self.is_limited_by_option { " (--max-session-file-mib)" } else { "" };
        let why = format!("it is larger than {limit} MiB, which is as much as is read{option}");
        io::Error::new(io::ErrorKind::FileTooLarge, why)
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
            if before.size > self.largest_file {
                return Err(self.too_large());
            }
            let (bytes, size) = self.read_pieces(&mut file, before.size)?;
            let after = Stamp::of(&file.metadata()?);
            if before == after && size == after.size {
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

    fn links(&self, path: &Path) -> io::Result<u64> {
        self.check(path)?;
        Ok(path.symlink_metadata()?.nlink())
    }

    fn largest_file(&self) -> u64 {
        self.largest_file
    }
}

/// Whether an error says that nothing more can be written for now, though what is there can be read.
pub fn has_no_room(error: &io::Error) -> bool {
    use io::ErrorKind;
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::ReadOnlyFilesystem)
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
    fn memory_is_taken_for_what_is_there_and_not_for_what_a_file_claims() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sparse.json");
        let disk = RealDisk::with_largest_file(folder.path(), 1 << 40);
        File::create(&path).unwrap().set_len(1 << 40).unwrap();
        let error = disk.read(&path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "without reading all: {error}");
        let error = RealDisk::new(folder.path()).read(&path).unwrap_err();
        assert!(error.kind() == io::ErrorKind::FileTooLarge && error.to_string().contains("4096 MiB"), "{error}");
        // A hole behind words, and words behind it.
        let file = File::create(&path).unwrap();
        file.write_all_at(b"{words", 0).unwrap();
        file.write_all_at(b"more}", 64 * PIECE_BYTES as u64).unwrap();
        let (bytes, stamp) = disk.read(&path).unwrap();
        assert_eq!(stamp.size, 64 * PIECE_BYTES as u64 + 5);
        assert!(bytes.len() < 4 * PIECE_BYTES, "{}", bytes.len());
        assert!(bytes.starts_with(b"{words\0") && bytes.ends_with(b"\0more}"));
    }

    #[test]
    fn files_up_to_the_limit_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file.json");
        let limit = 2 * PIECE_BYTES;
        let disk = RealDisk::with_largest_file(folder.path(), limit as u64);
        for size in [limit - 1, limit, limit + 1] {
            std::fs::write(&path, "{".repeat(size)).unwrap();
            let read = disk.read(&path).map(|(bytes, _)| bytes.len()).map_err(|error| error.kind());
            assert_eq!(read, if size <= limit { Ok(size) } else { Err(io::ErrorKind::FileTooLarge) });
        }
    }

    #[test]
    fn reading_can_be_ended() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file.json");
        std::fs::write(&path, "{}").unwrap();
        let disk = RealDisk::new(folder.path());
        let other = disk.interruptible();
        other.clone().interrupt();
        assert!(other.read(&path).is_err());
        assert!(disk.read(&path).is_ok());
    }

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
