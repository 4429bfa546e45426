//! A disk for tests of what is above bdevs.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use basalt_env::Work;
use basalt_reactor::Local;
use spin::Mutex;

use crate::{Bdev, BdevInfo, Io, IoChannel, IoError, Op, OpenError, RejectReason};

/// A disk in memory whose behaviour tests can change.
pub struct Disk {
    info: BdevInfo,
    /// What its channels share, by which its behaviour is changed.
    pub shared: Arc<Shared>,
}

/// What the channels of a disk share.
pub struct Shared {
    /// What is on it; 0xee in the beginning.
    pub bytes: Mutex<Vec<u8>>,
    /// Keeps Ios until cleared.
    pub hold: AtomicBool,
    /// Ends what is aborted, even of those it keeps.
    pub aborts: AtomicBool,
    /// Fails every Io with an unrecovered read error.
    pub fail: AtomicBool,
    /// What it does not do, of what it could.
    pub lacks: Vec<Op>,
    /// Ios of one channel at a time.
    pub depth: usize,
    /// Flushes so far.
    pub flushes: AtomicU32,
    /// Where a device would have found the buffers of reads so far, and how many bytes they had.
    pub reads: Mutex<Vec<(u64, usize)>>,
    block_size: usize,
}

impl Disk {
    /// A disk of blocks of `block_size` bytes that does all it can.
    pub fn new(block_size: u32, num_blocks: u64) -> Self {
        Self::lacking(block_size, num_blocks, &[], 64)
    }

    /// The same as another one.
    pub fn called(mut self, name: &str, uuid: [u8; 16]) -> Self {
        (self.info.name, self.info.uuid) = (name.into(), uuid);
        self
    }

    /// One that does not do some of it, and takes `depth` Ios of a channel at a time.
    pub fn lacking(block_size: u32, num_blocks: u64, lacks: &[Op], depth: usize) -> Self {
        let info = BdevInfo {
            name: String::from("Ram0"),
            product_name: "test disk",
            block_size,
            num_blocks: num_blocks.into(),
            uuid: [7; 16],
            optimal_io_boundary: 0,
        };
        let shared = Shared {
            bytes: Mutex::new(alloc::vec![0xee; (block_size as u64 * num_blocks) as usize]),
            hold: AtomicBool::new(false),
            aborts: AtomicBool::new(false),
            fail: AtomicBool::new(false),
            lacks: lacks.to_vec(),
            depth,
            flushes: AtomicU32::new(0),
            reads: Mutex::new(Vec::new()),
            block_size: block_size as usize,
        };
        Self { info, shared: Arc::new(shared) }
    }
}

impl Bdev for Disk {
    fn info(&self) -> &BdevInfo {
        &self.info
    }

    fn supports(&self, op: Op) -> bool {
        matches!(op, Op::Read | Op::Write | Op::Flush | Op::Unmap | Op::WriteZeroes)
            && !self.shared.lacks.contains(&op)
    }

    fn channel(&self, _: &Local) -> Result<Box<dyn IoChannel>, OpenError> {
        Ok(Box::new(DiskChannel {
            shared: Arc::clone(&self.shared),
            queue: Vec::new(),
            ended: Vec::new(),
        }))
    }
}

struct DiskChannel {
    shared: Arc<Shared>,
    queue: Vec<Io>,
    ended: Vec<Io>,
}

impl IoChannel for DiskChannel {
    fn submit(&mut self, io: &mut Io) -> Result<(), RejectReason> {
        if self.queue.len() >= self.shared.depth {
            return Err(RejectReason::QueueFull);
        }
        assert!(!self.shared.lacks.contains(&io.op));
        self.queue.push(io.take());
        Ok(())
    }

    fn poll(&mut self, done: &mut dyn FnMut(&mut Io)) -> Work {
        self.ended.iter_mut().for_each(&mut *done);
        let ended = Work(self.ended.drain(..).len() as u32);
        if self.shared.hold.load(Ordering::Relaxed) {
            return ended;
        }
        let count = self.queue.len() as u32;
        for mut io in self.queue.drain(..) {
            self.shared.run(&mut io);
            done(&mut io);
        }
        Work(count) + ended
    }

    fn abort(&mut self, tag: u64) -> bool {
        let at = self.queue.iter().position(|io| io.tag == tag);
        let Some(at) = at.filter(|_| self.shared.aborts.load(Ordering::Relaxed)) else {
            return false;
        };
        let mut io = self.queue.remove(at);
        io.status = Err(IoError::Aborted);
        self.ended.push(io);
        true
    }
}

impl Shared {
    fn run(&self, io: &mut Io) {
        if self.fail.load(Ordering::Relaxed) {
            io.status = Err(IoError::Nvme { sct: 2, sc: 0x81, dnr: false });
            return;
        }
        let mut bytes = self.bytes.lock();
        let start = io.lba as usize * self.block_size;
        let len = io.blocks as usize * self.block_size;
        match io.op {
            Op::Flush => drop(self.flushes.fetch_add(1, Ordering::Relaxed)),
            Op::Unmap | Op::WriteZeroes => bytes[start..start + len].fill(0),
            Op::Read | Op::Write => {
                assert_eq!(io.data.len(), len);
                let mut at = start;
                for buf in io.data.as_mut_slice() {
                    let range = at..at + buf.len();
                    at = range.end;
                    match io.op {
                        Op::Read => {
                            self.reads.lock().push((buf.phys().as_u64(), buf.len()));
                            buf.as_mut_slice().copy_from_slice(&bytes[range]);
                        }
                        _ => bytes[range].copy_from_slice(buf.as_slice()),
                    }
                }
            }
            _ => unreachable!("it does nothing else"),
        }
    }
}
