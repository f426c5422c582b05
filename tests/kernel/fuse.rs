// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A FUSE server, fuse(4), that answers until it is told to stop. It serves an empty directory in which every name that
//! is looked up is another directory.

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

/// The server of one mount. Dropping it releases the processes that wait for an answer.
#[derive(Debug)]
pub struct Server {
    answers: Arc<AtomicBool>,
    keeps: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Mounts the file system and starts its server. Returns `None` if this machine has no FUSE.
    pub fn mount(at: &Path) -> Option<Self> {
        let device = File::options().read(true).write(true).open("/dev/fuse").ok()?;
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0,default_permissions", device.as_raw_fd());
        let options = CString::new(options).unwrap();
        mount("trial", at, "fuse", MountFlags::empty(), options.as_c_str()).ok()?;
        let [answers, keeps, ends] = [true, false, false].map(|value| Arc::new(AtomicBool::new(value)));
        let asked = Arc::new(AtomicUsize::new(0));
        let thread = std::thread::spawn({
            let (answers, keeps) = (Arc::clone(&answers), Arc::clone(&keeps));
            let (asked, ends) = (Arc::clone(&asked), Arc::clone(&ends));
            move || serve(&device, &answers, &keeps, &asked, &ends)
        });
        Some(Self { answers, keeps, asked, ends, thread: Some(thread) })
    }

    /// Returns the number of requests so far.
    pub fn asked(&self) -> usize {
        // A process that waited for an answer has received it at this point. Only notifications, which need no
        // answer, may still arrive.
        std::thread::sleep(PAUSE);
        self.asked.load(Ordering::SeqCst)
    }

    /// Stops reading and answering requests.
    pub fn is_mute(&self) {
        self.answers.store(false, Ordering::SeqCst);
        // The server may be in the middle of an answer.
        std::thread::sleep(PAUSE * 4);
    }

    /// Continues to read requests, but answers none. A process whose request was read can't be killed.
    pub fn keeps_requests(&self) {
        self.keeps.store(true, Ordering::SeqCst);
    }

    /// Detaches a mount of the file system, even if it is in use.
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

fn serve(mut device: &File, answers: &AtomicBool, keeps: &AtomicBool, asked: &AtomicUsize, ends: &AtomicBool) {
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
        // A read error means that the file system is no longer mounted.
        let Ok(length) = device.read(&mut request) else { return };
        if let Some(answer) = answer(&request[..length]).filter(|_| !keeps.load(Ordering::SeqCst)) {
            // The kernel's first request comes after the mount.
            let is_first = request[4..8] == 26_u32.to_ne_bytes();
            asked.fetch_add(usize::from(!is_first), Ordering::SeqCst);
            // The process that sent the request may be gone.
            let _ = device.write(&answer);
        }
    }
}

/// Returns an answer as in linux/fuse.h, or `None` if none is expected.
fn answer(request: &[u8]) -> Option<Vec<u8>> {
    let at32 = |offset: usize| u32::from_ne_bytes(request[offset..offset + 4].try_into().unwrap());
    let (operation, unique) = (at32(4), &request[8..16]);
    let body: Result<Vec<u8>, i32> = match operation {
        // FORGET, INTERRUPT and BATCH_FORGET.
        2 | 36 | 42 => return None,
        // LOOKUP: a new node that isn't cached.
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
        // READDIR, READDIRPLUS, RELEASEDIR, FLUSH, DESTROY: the answer is empty.
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

/// Returns the attributes of a directory.
fn attributes(node: u64) -> Vec<u8> {
    let rest = [0_u32, 0, 0, 0o40_755, 2, 0, 0, 0, 4096, 0];
    [words64(&[node, 0, 0, 0, 0, 0]), rest.iter().flat_map(|word| word.to_ne_bytes()).collect()].concat()
}
