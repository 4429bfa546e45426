//! Writes the archive format of initial RAM disks (`newc`; Linux `driver-api/early-userspace`).

use std::collections::BTreeSet;

const FILE: u32 = 0o100_000;
const DIRECTORY: u32 = 0o040_000;
const SYMLINK: u32 = 0o120_000;
/// Archives that follow one another begin on such a boundary.
const BLOCK: usize = 512;

/// An archive in the making. Paths are relative to the root; their directories come by themselves.
#[derive(Debug, Default)]
pub(super) struct Archive {
    bytes: Vec<u8>,
    directories: BTreeSet<String>,
    count: u32,
}

impl Archive {
    /// Adds a file.
    pub(super) fn file(&mut self, path: &str, mode: u32, data: &[u8]) {
        self.parents(path);
        self.entry(path, FILE | mode, data);
    }

    /// Adds a symbolic link to `target`.
    pub(super) fn symlink(&mut self, path: &str, target: &str) {
        self.parents(path);
        self.entry(path, SYMLINK | 0o777, target.as_bytes());
    }

    /// Adds a directory.
    pub(super) fn directory(&mut self, path: &str) {
        self.parents(path);
        if self.directories.insert(path.to_owned()) {
            self.entry(path, DIRECTORY | 0o755, &[]);
        }
    }

    /// The archive's bytes.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes.resize(self.bytes.len().next_multiple_of(BLOCK), 0);
        self.bytes
    }

    fn parents(&mut self, path: &str) {
        if let Some((parent, _)) = path.rsplit_once('/') {
            self.directory(parent);
        }
    }

    fn entry(&mut self, path: &str, mode: u32, data: &[u8]) {
        self.count += 1;
        let sizes = [data.len(), path.len() + 1].map(|size| u32::try_from(size).unwrap_or(0));
        // Inode, mode, owner, group, links, time, size, four device numbers, name's size, sum.
        let fields = [self.count, mode, 0, 0, 1, 0, sizes[0], 0, 0, 0, 0, sizes[1], 0];
        self.bytes.extend(b"070701");
        for field in fields {
            self.bytes.extend(format!("{field:08x}").bytes());
        }
        self.bytes.extend(path.bytes().chain([0]));
        self.pad();
        self.bytes.extend(data);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_come_before_what_is_in_them_and_only_once() {
        let mut archive = Archive::default();
        archive.file("a/b/one", 0o644, b"1");
        archive.file("a/b/two", 0o755, b"22222");
        let text = String::from_utf8(archive.finish()).unwrap();
        let at = |name: &str| text.find(&format!("{name}\0")).unwrap();
        assert!(at("a") < at("a/b") && at("a/b") < at("a/b/one"));
        assert_eq!(text.matches("070701").count(), 5);
        assert_eq!(text.len() % BLOCK, 0);
    }
}
