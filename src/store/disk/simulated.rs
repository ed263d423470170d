//! A disk in memory that loses power and runs full, as badly as a real one may.
//!
//! Of what was not synced when the power goes, any subset of 512-byte blocks survives, each in any version that was written
//! since the last sync; the size is any that the file had since; names that were not synced into their folder may be the
//! old or the new ones, each by itself. Files in a folder whose own name did not survive are gone.

use super::{Disk, DiskFile, Stamp};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

const BLOCK: usize = 512;

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    Folder,
    File(u64),
}

#[derive(Clone, Debug, Default)]
struct Inode {
    content: Vec<u8>,
    modified: i128,
    /// Every content since the last sync, oldest first; never empty.
    versions: Vec<Vec<u8>>,
}

#[derive(Debug, Default)]
struct State {
    names: BTreeMap<PathBuf, Node>,
    synced_names: BTreeMap<PathBuf, Node>,
    inodes: BTreeMap<u64, Inode>,
    clock: i128,
    next_inode: u64,
    written: u64,
    syncs: u64,
    operations: u64,
    fail_from: Option<u64>,
    fail_until: u64,
    partial: usize,
    full: Option<u64>,
    largest_file: Option<u64>,
    links: BTreeMap<PathBuf, u64>,
}

/// The simulated disk. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct SimulatedDisk(Arc<Mutex<State>>);

impl SimulatedDisk {
    /// An empty disk on which the folder `root` stands.
    pub fn new(root: &Path) -> Self {
        let disk = Self::default();
        {
            let mut state = disk.state();
            state.names.insert(root.to_owned(), Node::Folder);
            state.synced_names.insert(root.to_owned(), Node::Folder);
        }
        disk
    }

    /// Makes the operations that write fail from the `first`th on (counted from now, from 0), `count` of them; a failing write
    /// still puts `partial` bytes on the disk.
    pub fn fail_operations(&self, first: u64, count: u64, partial: usize) {
        let mut state = self.state();
        state.fail_from = Some(state.operations + first);
        state.fail_until = state.operations.saturating_add(first).saturating_add(count);
        state.partial = partial;
    }

    /// Lets files take no more than `free` bytes in addition; `None` ends the shortage.
    pub fn run_full(&self, free: Option<u64>) {
        let mut state = self.state();
        let used: u64 = state.inodes.values().map(|inode| inode.content.len() as u64).sum();
        state.full = free.map(|free| used + free);
    }

    /// Limits the size of files.
    pub fn limit_files(&self, largest: u64) {
        self.state().largest_file = Some(largest);
    }

    /// Gives the file that stands at a path another name, which is not below the root.
    pub fn link(&self, path: &Path) {
        *self.state().links.entry(path.to_owned()).or_insert(1) += 1;
    }

    /// How many bytes were written in all.
    pub fn written(&self) -> u64 {
        self.state().written
    }

    /// How often files were synced.
    pub fn syncs(&self) -> u64 {
        self.state().syncs
    }

    /// The paths of all files.
    pub fn files(&self) -> Vec<PathBuf> {
        self.state().names.iter().filter(|(_, node)| **node != Node::Folder).map(|(path, _)| path.clone()).collect()
    }

    /// Puts a file there as another program would, synced.
    pub fn put(&self, path: &Path, bytes: &[u8]) {
        let _ = self.remove(path);
        let mut file = self.create(path).unwrap();
        file.write_at(0, bytes).unwrap();
        file.sync().unwrap();
        self.sync_folder(path.parent().unwrap()).unwrap();
    }

    /// Loses power; `choose(n)` picks one of `0..n` for each thing that may go either way.
    pub fn lose_power(&self, mut choose: impl FnMut(usize) -> usize) {
        let mut state = self.state();
        let state = &mut *state;
        state.fail_from = None;
        state.full = None;
        for inode in state.inodes.values_mut() {
            inode.content = survivor(&inode.versions, &mut choose);
            inode.versions = vec![inode.content.clone()];
        }
        let mut paths: Vec<PathBuf> = state.names.keys().chain(state.synced_names.keys()).cloned().collect();
        paths.sort();
        paths.dedup();
        let mut names = BTreeMap::new();
        for path in paths {
            let (old, new) = (state.synced_names.get(&path), state.names.get(&path));
            let chosen = if old != new && choose(2) == 0 { old } else { new };
            let parent_is_there = path
                .parent()
                .is_none_or(|parent| names.contains_key(parent) || !state.names.keys().any(|name| name == parent));
            if let (Some(node), true) = (chosen, parent_is_there) {
                names.insert(path, *node);
            }
        }
        state.synced_names = names.clone();
        state.names = names;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    fn file(&self, path: &Path) -> io::Result<u64> {
        match self.state().names.get(path) {
            Some(Node::File(inode)) => Ok(*inode),
            Some(Node::Folder) => Err(io::Error::from(io::ErrorKind::IsADirectory)),
            None => Err(io::Error::from(io::ErrorKind::NotFound)),
        }
    }
}

/// One content that may be found after a power loss.
fn survivor(versions: &[Vec<u8>], choose: &mut impl FnMut(usize) -> usize) -> Vec<u8> {
    if versions.len() == 1 {
        return versions[0].clone();
    }
    let size = versions[choose(versions.len())].len();
    let mut content = vec![0; size];
    for start in (0..size).step_by(BLOCK) {
        let version = &versions[choose(versions.len())];
        let end = (start + BLOCK).min(size).min(version.len());
        if start < end {
            content[start..end].copy_from_slice(&version[start..end]);
        }
    }
    content
}

impl State {
    fn stamp(&self, inode: u64) -> Stamp {
        let file = &self.inodes[&inode];
        Stamp { inode, size: file.content.len() as u64, modified: file.modified }
    }

    /// Counts an operation that writes and says whether it fails.
    fn operation(&mut self) -> io::Result<()> {
        let number = self.operations;
        self.operations += 1;
        match self.fail_from {
            Some(from) if (from..self.fail_until).contains(&number) => Err(io::Error::other("the disk fails")),
            _ => Ok(()),
        }
    }

    fn change(&mut self, inode: u64, content: Vec<u8>) {
        self.clock += 1;
        let modified = self.clock;
        if let Some(file) = self.inodes.get_mut(&inode) {
            file.modified = modified;
            file.versions.push(content.clone());
            file.content = content;
        }
    }
}

impl Disk for SimulatedDisk {
    fn read(&self, path: &Path) -> io::Result<(Vec<u8>, Stamp)> {
        let inode = self.file(path)?;
        let state = self.state();
        Ok((state.inodes[&inode].content.clone(), state.stamp(inode)))
    }

    fn stamp(&self, path: &Path) -> io::Result<Stamp> {
        let inode = self.file(path)?;
        Ok(self.state().stamp(inode))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let inode = self.file(path)?;
        Ok(Box::new(SimulatedFile { disk: self.clone(), inode }))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.state();
        state.operation()?;
        if state.names.contains_key(path) {
            return Err(io::Error::from(io::ErrorKind::AlreadyExists));
        }
        if path.parent().is_none_or(|parent| state.names.get(parent) != Some(&Node::Folder)) {
            return Err(io::Error::from(io::ErrorKind::NotFound));
        }
        state.next_inode += 1;
        state.clock += 1;
        let (inode, modified) = (state.next_inode, state.clock);
        state.inodes.insert(inode, Inode { content: Vec::new(), modified, versions: vec![Vec::new()] });
        state.names.insert(path.to_owned(), Node::File(inode));
        drop(state);
        Ok(Box::new(SimulatedFile { disk: self.clone(), inode }))
    }

    fn create_folder(&self, path: &Path) -> io::Result<bool> {
        let mut state = self.state();
        state.operation()?;
        if state.names.contains_key(path) {
            return Ok(false);
        }
        state.names.insert(path.to_owned(), Node::Folder);
        Ok(true)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.operation()?;
        let node = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.links.remove(to);
        state.names.insert(to.to_owned(), node);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.names.remove(path).map(|_| ()).ok_or(io::ErrorKind::NotFound.into())
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.operation()?;
        let inside = |name: &Path| name.parent() == Some(path);
        let State { names, synced_names, .. } = &mut *state;
        synced_names.retain(|name, _| !inside(name));
        synced_names.extend(names.iter().filter(|(name, _)| inside(name)).map(|(name, node)| (name.clone(), *node)));
        Ok(())
    }

    fn links(&self, path: &Path) -> io::Result<u64> {
        self.file(path)?;
        Ok(self.state().links.get(path).copied().unwrap_or(1))
    }

    fn largest_file(&self) -> u64 {
        self.state().largest_file.unwrap_or(u64::MAX)
    }
}

struct SimulatedFile {
    disk: SimulatedDisk,
    inode: u64,
}

impl DiskFile for SimulatedFile {
    fn stamp(&self) -> io::Result<Stamp> {
        Ok(self.disk.state().stamp(self.inode))
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.disk.state();
        let failed = state.operation();
        let old = state.inodes[&self.inode].content.clone();
        let offset = usize::try_from(offset).unwrap();
        let wanted = (offset + bytes.len()).saturating_sub(old.len()) as u64;
        let used: u64 = state.inodes.values().map(|inode| inode.content.len() as u64).sum();
        let free = state.full.map_or(u64::MAX, |full| full.saturating_sub(used));
        let allowed = match (&failed, wanted > free) {
            (Err(_), _) => state.partial.min(bytes.len()),
            (Ok(()), true) => bytes.len() - usize::try_from(wanted - free).unwrap(),
            (Ok(()), false) => bytes.len(),
        };
        let mut content = old;
        if allowed > 0 {
            content.resize(content.len().max(offset + allowed), 0);
            content[offset..offset + allowed].copy_from_slice(&bytes[..allowed]);
            state.written += allowed as u64;
            state.change(self.inode, content);
        }
        failed?;
        if allowed < bytes.len() { Err(io::Error::from(io::ErrorKind::StorageFull)) } else { Ok(()) }
    }

    fn set_len(&mut self, size: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.operation()?;
        let mut content = state.inodes[&self.inode].content.clone();
        content.resize(usize::try_from(size).unwrap(), 0);
        state.change(self.inode, content);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.disk.state();
        state.operation()?;
        state.syncs += 1;
        if let Some(inode) = state.inodes.get_mut(&self.inode) {
            inode.versions = vec![inode.content.clone()];
        }
        Ok(())
    }
}
