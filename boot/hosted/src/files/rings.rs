//! A core's rings to files: new orders are passed on once per round, for all of them.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use basalt_bdev::Io;
use basalt_env::{DmaBuf, Work};
use basalt_hosted::file::HostFile;
use basalt_hosted::{Buffers, Readiness, Uring};
use basalt_reactor::Local;

use crate::stack::WAKE_ONLY;

/// Orders of one ring at a time.
const DEPTH: u16 = 256;

/// An Io in the hands of the host.
pub struct FileIo {
    /// As it was submitted.
    pub io: Io,
    /// The buffer that the host is given instead of those of the Io, if it would not take them.
    pub bounce: Option<DmaBuf>,
}

impl Buffers for FileIo {
    fn buffers_mut(&mut self) -> &mut [DmaBuf] {
        match &mut self.bounce {
            Some(buffer) => std::slice::from_mut(buffer),
            None => self.io.data.as_mut_slice(),
        }
    }
}

/// One channel's ring.
pub type Ring = Uring<FileIo>;

/// A ring to `file`.
pub fn make_ring(file: &HostFile) -> io::Result<Ring> {
    Uring::new(file.another()?, DEPTH)
}

/// All rings of a core, a service.
#[derive(Default)]
pub struct Rings {
    rings: RefCell<Vec<Rc<RefCell<Ring>>>>,
}

impl Rings {
    /// Provides the service, with its poller.
    pub fn start(local: &Local) {
        let rings = Rc::new(Self::default());
        local.provide(Rc::clone(&rings));
        local.late_poller("file_ring", move |_| rings.commit()).detach();
    }

    /// A new ring to `file`, which also ends the core's sleep.
    pub fn add(&self, local: &Local, file: &HostFile) -> io::Result<Rc<RefCell<Ring>>> {
        let ring = make_ring(file)?;
        if let Some(readiness) = local.service::<Readiness>() {
            readiness.add(&ring, WAKE_ONLY)?;
        }
        let ring = Rc::new(RefCell::new(ring));
        self.rings.borrow_mut().push(Rc::clone(&ring));
        Ok(ring)
    }

    /// Tells the host of new orders. Rings whose channel is gone go once nothing is out any more.
    fn commit(&self) -> Work {
        let mut work = Work::IDLE;
        self.rings.borrow_mut().retain(|shared| {
            let mut ring = shared.borrow_mut();
            ring.commit();
            if Rc::strong_count(shared) > 1 {
                return true;
            }
            work += Work(ring.poll(drop));
            ring.in_flight() > 0
        });
        work
    }
}
