//! What a core can sleep on: sockets and other files that have become ready.

use std::os::fd::AsFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::time::TimeSpec;

/// Files handled per look.
const EVENTS_MAX: usize = 64;

/// What a file has become ready for, since it was last told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ready {
    /// The word the file was added with.
    pub token: u64,
    /// There is something to read, or the end of it.
    pub readable: bool,
    /// There is room to write.
    pub writable: bool,
    /// The other side will send no more, or there was an error: reading tells which.
    pub ended: bool,
}

/// The files of one core (Linux's epoll, edge-triggered: a change is told once).
#[derive(Debug)]
pub struct Readiness {
    epoll: Epoll,
}

impl Readiness {
    /// Without files.
    ///
    /// # Errors
    /// The process may open no more files.
    pub fn new() -> Result<Self, Errno> {
        Ok(Self { epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)? })
    }

    /// Adds `file` until it is closed; `token` names it.
    ///
    /// # Errors
    /// It cannot be waited for, or the host is out of memory.
    pub fn add(&self, file: impl AsFd, token: u64) -> Result<(), Errno> {
        let flags = EpollFlags::EPOLLIN
            | EpollFlags::EPOLLOUT
            | EpollFlags::EPOLLRDHUP
            | EpollFlags::EPOLLET;
        self.epoll.add(file, EpollEvent::new(flags, token))
    }

    /// Tells `on_ready` of every file that has become ready, without waiting. How many there were.
    pub fn look(&self, mut on_ready: impl FnMut(Ready)) -> u32 {
        let mut events = [EpollEvent::empty(); EVENTS_MAX];
        let count = self.epoll.wait(&mut events, EpollTimeout::ZERO).unwrap_or(0);
        let ended = EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR;
        for event in events.iter().take(count) {
            let flags = event.events();
            on_ready(Ready {
                token: event.data(),
                readable: flags.intersects(EpollFlags::EPOLLIN | ended),
                writable: flags.intersects(EpollFlags::EPOLLOUT | ended),
                ended: flags.intersects(ended),
            });
        }
        count as u32
    }

    /// Sleeps until a file becomes ready, or for `at_most`.
    pub fn sleep(&self, at_most: Duration) {
        let mut files = [PollFd::new(self.epoll.0.as_fd(), PollFlags::POLLIN)];
        // An interrupted sleep is a short one.
        let _ = ppoll(&mut files, Some(TimeSpec::from_duration(at_most)), None);
    }
}
