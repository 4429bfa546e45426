#![expect(unsafe_code, reason = "lends memory to the host's kernel; DESIGN §5 allows it here")]

//! Reading and writing a file of the host without waiting: Linux's `io_uring`.

use std::fmt;
use std::fs::File;
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use basalt_env::DmaBuf;
use io_uring::{IoUring, opcode, squeue, types};
use libc::iovec;
use nix::errno::Errno;

/// Where the one file is among the ring's registered ones.
const FILE: types::Fixed = types::Fixed(0);

/// What the host's kernel moves data to and from while it works on an order.
pub trait Buffers {
    /// The buffers in order; the same ones until the order comes back.
    fn buffers_mut(&mut self) -> &mut [DmaBuf];
}

/// What to do with the file. Offsets and lengths are bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileOp {
    /// File to buffers, from `offset`.
    Read {
        /// First byte.
        offset: u64,
    },
    /// Buffers to file, from `offset`.
    Write {
        /// First byte.
        offset: u64,
    },
    /// What was written becomes durable.
    Sync,
    /// The range reads as zeroes afterwards and need not take up room.
    Punch {
        /// First byte.
        offset: u64,
        /// How many.
        len: u64,
    },
}

/// An order that has come back.
#[derive(Debug)]
pub struct Finished<P> {
    /// What was handed in with it.
    pub payload: P,
    /// How many bytes were moved.
    pub result: Result<u32, Errno>,
}

struct Slot<P> {
    payload: Option<P>,
    /// Kept with the slot, so that an order of several buffers allocates only the first time.
    vectors: Vec<iovec>,
}

/// One thread's orders to one file.
///
/// Life of an order: [`Self::submit`] takes its payload -> [`Self::commit`] tells the kernel ->
/// [`Self::poll`] gives it back. The ring's descriptor is readable when one can be given back.
/// Dropping the ring waits for those that are still out.
pub struct Uring<P: Buffers> {
    ring: IoUring,
    slots: Box<[Slot<P>]>,
    free: Vec<u16>,
    /// Orders the kernel was not told of yet.
    untold: bool,
    _file: File,
}

impl<P: Buffers> Uring<P> {
    /// A ring for up to `depth` orders to `file` at a time.
    ///
    /// # Errors
    /// The host does not offer io_uring, forbids it, or is out of memory.
    pub fn new(file: File, depth: u16) -> io::Result<Self> {
        let ring = IoUring::builder().setup_cqsize(u32::from(depth) * 2).build(depth.into())?;
        ring.submitter().register_files(&[file.as_raw_fd()])?;
        let slot = |_| Slot { payload: None, vectors: Vec::new() };
        let slots = (0..depth).map(slot).collect();
        let free = (0..depth).rev().collect();
        Ok(Self { ring, slots, free, untold: false, _file: file })
    }

    /// Takes an order, or gives its payload back if there are too many.
    ///
    /// # Errors
    /// As many orders are out as the ring is deep.
    pub fn submit(&mut self, op: FileOp, payload: P) -> Result<(), P> {
        let Some(index) = self.free.pop() else { return Err(payload) };
        let slot = &mut self.slots[usize::from(index)];
        let entry = slot.fill(op, payload).user_data(index.into());
        // SAFETY: the entry's pointers are into buffers that the slot owns, and to the slot's own
        // vectors; neither is touched until the kernel gives the order back (or ever, see `drop`).
        if unsafe { self.ring.submission().push(&entry) }.is_err() {
            // The queue has an entry for each slot, so it is full only of what was not told yet.
            self.free.push(index);
            return self.slots[usize::from(index)].payload.take().map_or(Ok(()), Err);
        }
        self.untold = true;
        Ok(())
    }

    /// Tells the kernel of all new orders at once.
    pub fn commit(&mut self) {
        if self.untold {
            // What the kernel has no room for stays queued until the next time.
            self.untold = self.ring.submit().is_err();
        }
    }

    /// Hands every order that has come back to `done`; how many there were.
    pub fn poll(&mut self, mut done: impl FnMut(Finished<P>)) -> u32 {
        let mut count = 0;
        for entry in self.ring.completion() {
            let index = entry.user_data() as u16;
            let slot = self.slots.get_mut(usize::from(index));
            let Some(payload) = slot.and_then(|slot| slot.payload.take()) else { continue };
            self.free.push(index);
            count += 1;
            let result = u32::try_from(entry.result());
            let result = result.map_err(|_| Errno::from_raw(-entry.result()));
            done(Finished { payload, result });
        }
        count
    }

    /// How many orders are out.
    pub fn in_flight(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}

/// Where the data of an order are.
enum Data {
    One(*mut u8, u32),
    Several(*const iovec, u32),
}

impl<P: Buffers> Slot<P> {
    /// Keeps `payload`; the entry that says what to do with it.
    fn fill(&mut self, op: FileOp, payload: P) -> squeue::Entry {
        match (op, self.keep(payload)) {
            (FileOp::Read { offset }, Data::One(at, len)) => {
                opcode::Read::new(FILE, at, len).offset(offset).build()
            }
            (FileOp::Read { offset }, Data::Several(at, count)) => {
                opcode::Readv::new(FILE, at, count).offset(offset).build()
            }
            (FileOp::Write { offset }, Data::One(at, len)) => {
                opcode::Write::new(FILE, at, len).offset(offset).build()
            }
            (FileOp::Write { offset }, Data::Several(at, count)) => {
                opcode::Writev::new(FILE, at, count).offset(offset).build()
            }
            (FileOp::Sync, _) => {
                opcode::Fsync::new(FILE).flags(types::FsyncFlags::DATASYNC).build()
            }
            (FileOp::Punch { offset, len }, _) => {
                let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
                opcode::Fallocate::new(FILE, len).offset(offset).mode(mode).build()
            }
        }
    }

    fn keep(&mut self, payload: P) -> Data {
        let buffers = self.payload.insert(payload).buffers_mut();
        if let [one] = buffers {
            let bytes = one.as_mut_slice();
            return Data::One(bytes.as_mut_ptr(), bytes.len() as u32);
        }
        self.vectors.clear();
        self.vectors.extend(buffers.iter_mut().map(|buffer| {
            let bytes = buffer.as_mut_slice();
            iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() }
        }));
        Data::Several(self.vectors.as_ptr(), self.vectors.len() as u32)
    }
}

impl<P: Buffers> AsFd for Uring<P> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the ring's descriptor is open for as long as the ring is borrowed.
        unsafe { BorrowedFd::borrow_raw(self.ring.as_raw_fd()) }
    }
}

impl<P: Buffers> Drop for Uring<P> {
    fn drop(&mut self) {
        while self.in_flight() > 0 {
            if self.ring.submit_and_wait(1).is_err() {
                // The kernel may still use the buffers: they are lost rather than reused.
                self.slots.iter_mut().for_each(|slot| mem::forget(slot.payload.take()));
                return;
            }
            self.poll(drop);
        }
    }
}

impl<P: Buffers> fmt::Debug for Uring<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Uring").field("in_flight", &self.in_flight()).finish_non_exhaustive()
    }
}
