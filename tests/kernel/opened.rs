// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Detects with inotify(7) whether a process opens, reads or changes a file that must not be touched. Opening a file
//! with `O_PATH` isn't detected: the resulting descriptor can't be used to read or write.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};
use rustix::io::Errno;

use crate::Check;
use crate::harness::tree::{self, Detail};

/// Inotify instances that can be reused: the kernel takes tens of milliseconds to close one.
static UNUSED: Mutex<Vec<OwnedFd>> = Mutex::new(Vec::new());

fn events() -> OwnedFd {
    let unused = UNUSED.lock().unwrap().pop();
    unused.unwrap_or_else(|| inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).unwrap())
}

/// A watch over files.
#[derive(Debug)]
pub struct Opened {
    events: OwnedFd,
    watched: HashMap<i32, PathBuf>,
}

impl Opened {
    /// Watches these files or directories and everything below them. Events for a file are
    /// reported through its directory.
    pub fn watch<'a>(tops: impl IntoIterator<Item = &'a Path>) -> Self {
        let events = events();
        let mut watched = HashMap::new();
        for top in tops {
            for below in tree::read(top, Detail::Restored).into_keys() {
                let is_top = below.as_os_str().is_empty();
                let path = if is_top { top.to_owned() } else { top.join(below) };
                if !is_top && !std::fs::symlink_metadata(&path).unwrap().is_dir() {
                    continue;
                }
                let flags = WatchFlags::OPEN
                    | WatchFlags::ACCESS
                    | WatchFlags::MODIFY
                    | WatchFlags::ATTRIB
                    | WatchFlags::CREATE
                    | WatchFlags::DELETE
                    | WatchFlags::MOVE
                    | WatchFlags::DONT_FOLLOW;
                watched.insert(inotify::add_watch(&events, &path, flags).unwrap(), path);
            }
        }
        let opened = Self { events, watched };
        opened.forget();
        opened
    }

    /// Watches only this file or directory. Returns `None` if this process isn't allowed to.
    pub fn watch_one(path: &Path) -> Option<Self> {
        let events = events();
        let flags = WatchFlags::OPEN | WatchFlags::ACCESS | WatchFlags::MODIFY;
        let added = inotify::add_watch(&events, path, flags).ok();
        let opened = Self { events, watched: added.map(|watch| (watch, path.to_owned())).into_iter().collect() };
        added.map(|_| opened)
    }

    /// Checks that there were no events since the last call.
    pub fn nothing(&self) -> Check {
        let seen = self.take();
        ensure!(seen.is_empty(), "opened or changed: {}", seen.join(", "));
        Ok(())
    }

    /// Discards the events so far, which were caused by the test itself.
    pub fn forget(&self) {
        self.take();
    }

    fn take(&self) -> Vec<String> {
        let mut buffer = [MaybeUninit::uninit(); 16 * 1024];
        let mut reader = Reader::new(&self.events, &mut buffer);
        let mut seen = Vec::new();
        loop {
            match reader.next() {
                Ok(event) => {
                    // If the kernel's queue overflowed, the event has no path. It also counts.
                    let path = self.watched.get(&event.wd()).cloned().unwrap_or_default();
                    let name = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes())).unwrap_or_default();
                    let path = if name.is_empty() { path } else { path.join(name) };
                    let line = format!("{} ({:?})", path.display(), event.events());
                    if !seen.contains(&line) {
                        seen.push(line);
                    }
                }
                Err(Errno::AGAIN) => return seen,
                Err(error) => panic!("inotify: {error}"),
            }
        }
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        for watch in self.watched.keys() {
            // At worst, the file was deleted, and its watch with it.
            let _ = inotify::remove_watch(&self.events, *watch);
        }
        self.forget();
        if let (Ok(events), Ok(mut unused)) = (self.events.try_clone(), UNUSED.lock()) {
            unused.push(events);
        }
    }
}
