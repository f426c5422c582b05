// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Knows a file server that answers until it is told not to, fuse(4): one of an empty directory, and of whatever is looked
//! for in it, which is a directory, too.

use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// The server of one mount. Who waits for it is set free when it is dropped.
#[derive(Debug)]
pub struct Server {
    answers: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Mounts it; none where this machine has no FUSE.
    pub fn mount(at: &Path) -> Option<Self> {
        let device = File::options().read(true).write(true).open("/dev/fuse").ok()?;
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0,default_permissions", device.as_raw_fd());
        let options = CString::new(options).unwrap();
        mount("trial", at, "fuse", MountFlags::empty(), options.as_c_str()).ok()?;
        let (answers, ends) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(false)));
        let asked = Arc::new(AtomicUsize::new(0));
        let thread = std::thread::spawn({
            let (answers, asked, ends) = (Arc::clone(&answers), Arc::clone(&asked), Arc::clone(&ends));
            move || serve(&device, &answers, &asked, &ends)
        });
        Some(Self { answers, asked, ends, thread: Some(thread) })
    }

    /// How many questions there were so far.
    pub fn asked(&self) -> usize {
        // What is asked now is of one who waits, and has been answered; but for what the kernel tells unasked.
        std::thread::sleep(PAUSE);
        self.asked.load(Ordering::SeqCst)
    }

    /// From here on nobody gets an answer, and no question is taken.
    pub fn is_mute(&self) {
        self.answers.store(false, Ordering::SeqCst);
        // It may be in the middle of an answer.
        std::thread::sleep(PAUSE * 4);
    }

    /// Takes a mount of it away, on which somebody may be.
    pub fn detach(at: &Path) {
        unmount(at, UnmountFlags::DETACH).unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

const PAUSE: Duration = Duration::from_millis(5);

fn serve(mut device: &File, answers: &AtomicBool, asked: &AtomicUsize, ends: &AtomicBool) {
    let mut request = vec![0; 256 * 1024];
    while !ends.load(Ordering::SeqCst) {
        if !answers.load(Ordering::SeqCst) {
            std::thread::sleep(PAUSE);
            continue;
        }
        let pause = Timespec { tv_sec: 0, tv_nsec: PAUSE.as_nanos().try_into().unwrap() };
        if !matches!(poll(&mut [PollFd::new(&device, PollFlags::IN)], Some(&pause)), Ok(1..)) {
            continue;
        }
        // Not mounted any more.
        let Ok(length) = device.read(&mut request) else { return };
        if let Some(answer) = answer(&request[..length]) {
            // The kernel's first one comes after the mount.
            let is_first = request[4..8] == 26_u32.to_ne_bytes();
            asked.fetch_add(usize::from(!is_first), Ordering::SeqCst);
            // Who asked may be gone.
            let _ = device.write(&answer);
        }
    }
}

/// An answer as in linux/fuse.h; none where none is expected.
fn answer(request: &[u8]) -> Option<Vec<u8>> {
    let at32 = |offset: usize| u32::from_ne_bytes(request[offset..offset + 4].try_into().unwrap());
    let (operation, unique) = (at32(4), &request[8..16]);
    let body: Result<Vec<u8>, i32> = match operation {
        // FORGET, INTERRUPT and BATCH_FORGET.
        2 | 36 | 42 => return None,
        // LOOKUP: a node of its own, valid for no time.
        1 => {
            let name: u64 = request[40..].iter().fold(7, |sum, byte| sum * 31 % 1_000_003 + u64::from(*byte));
            Ok([words64(&[name + 2, 0, 0, 0, 0]), attributes(name + 2)].concat())
        }
        // GETATTR.
        3 => Ok([words64(&[0, 0]), attributes(u64::from(at32(16)))].concat()),
        // STATFS.
        17 => Ok(vec![0; 80]),
        // INIT: version 7.31.
        26 => Ok([7_u32, 31, 65536, 0, 16 | 12 << 16, 4096, 1]
            .iter()
            .flat_map(|word| word.to_ne_bytes())
            .chain([0; 36])
            .collect()),
        // OPENDIR.
        27 => Ok(vec![0; 16]),
        // READDIR, READDIRPLUS, RELEASEDIR, FLUSH, DESTROY: nothing.
        25 | 28 | 29 | 38 | 44 => Ok(Vec::new()),
        _ => Err(-libc::ENOSYS),
    };
    let (error, body) = body.map_or_else(|error| (error, Vec::new()), |body| (0, body));
    let length = u32::try_from(16 + body.len()).unwrap();
    Some([&length.to_ne_bytes(), &error.to_ne_bytes(), unique, &body].concat())
}

fn words64(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// Of a directory.
fn attributes(node: u64) -> Vec<u8> {
    let rest = [0_u32, 0, 0, 0o40_755, 2, 0, 0, 0, 4096, 0];
    [words64(&[node, 0, 0, 0, 0, 0]), rest.iter().flat_map(|word| word.to_ne_bytes()).collect()].concat()
}
