use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;

use basalt_bdev::{Channel, Descriptor, Io, OpenError, RejectReason};
use basalt_env::Work;
use basalt_reactor::Local;

/// Which command an Io belongs to: travels as [`Io::tag`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Tag {
    /// Connection's slot in its poll group.
    pub(crate) connection: u16,
    /// Command's slot in its connection.
    pub(crate) slot: u16,
    /// Which command of the group; tells a stale one from the slot's present command.
    pub(crate) generation: u32,
}

impl Tag {
    pub(crate) const fn to_u64(self) -> u64 {
        (self.connection as u64) << 48 | (self.slot as u64) << 32 | self.generation as u64
    }

    pub(crate) const fn from_u64(tag: u64) -> Self {
        Self { connection: (tag >> 48) as u16, slot: (tag >> 32) as u16, generation: tag as u32 }
    }
}

struct Entry {
    channel: Channel,
    /// Namespaces that use it.
    users: u32,
    /// Commands whose Io was refused because the channel was full, in order.
    refused: VecDeque<Tag>,
}

/// This core's channels: one per bdev, shared by all connections of the core.
#[derive(Default)]
pub(crate) struct Channels {
    entries: Vec<Option<Entry>>,
}

impl Channels {
    /// The channel of `bdev` for one more user.
    pub(crate) fn open(&mut self, bdev: &Descriptor, local: &Local) -> Result<u16, OpenError> {
        let same = |entry: &Entry| Arc::ptr_eq(entry.channel.descriptor().bdev(), bdev.bdev());
        if let Some(at) = self.entries.iter().position(|e| e.as_ref().is_some_and(same)) {
            if let Some(entry) = &mut self.entries[at] {
                entry.users += 1;
            }
            return Ok(at as u16);
        }
        let channel = bdev.channel(local)?;
        let entry = Entry { channel, users: 1, refused: VecDeque::new() };
        let vacant = self.entries.iter().position(Option::is_none);
        match vacant {
            Some(at) => self.entries[at] = Some(entry),
            None => self.entries.push(Some(entry)),
        }
        Ok(vacant.unwrap_or(self.entries.len() - 1) as u16)
    }

    /// One user fewer. The channel closes once its last Io has come back.
    pub(crate) fn release(&mut self, channel: u16) {
        if let Some(entry) = self.entry(channel) {
            entry.users = entry.users.saturating_sub(1);
        }
        self.close_if_unused(usize::from(channel));
    }

    /// Open channels.
    pub(crate) fn len(&self) -> usize {
        self.entries.iter().flatten().count()
    }

    /// Takes `io`, or leaves it as it is and says why.
    #[inline]
    pub(crate) fn submit(&mut self, channel: u16, io: &mut Io) -> Result<(), RejectReason> {
        let entry = self.entry(channel).ok_or(RejectReason::Removed)?;
        entry.channel.submit_in_place(io)
    }

    /// Ends the Io with that tag early, if its bdev can; whether that may be.
    pub(crate) fn abort(&mut self, channel: u16, tag: u64) -> bool {
        self.entry(channel).is_some_and(|entry| entry.channel.abort(tag))
    }

    /// Remembers that the Io of `tag` is to be submitted again.
    pub(crate) fn wait(&mut self, channel: u16, tag: Tag) {
        if let Some(entry) = self.entry(channel) {
            entry.refused.push_back(tag);
        }
    }

    /// Highest channel index plus one.
    pub(crate) fn bound(&self) -> u16 {
        self.entries.len() as u16
    }

    /// Moves finished Ios of `channel` to `done`.
    pub(crate) fn poll(&mut self, channel: u16, done: &mut Vec<Io>) -> Work {
        let Some(entry) = self.entry(channel) else { return Work::IDLE };
        let work = entry.channel.poll_in_place(|io| done.push(io.take()));
        if entry.users == 0 {
            self.close_if_unused(usize::from(channel));
        }
        work
    }

    /// Who waits longest for room in `channel`.
    pub(crate) fn next_refused(&mut self, channel: u16) -> Option<Tag> {
        self.entry(channel)?.refused.pop_front()
    }

    /// Puts `tag` back to the head of the line.
    pub(crate) fn still_refused(&mut self, channel: u16, tag: Tag) {
        if let Some(entry) = self.entry(channel) {
            entry.refused.push_front(tag);
        }
    }

    fn entry(&mut self, channel: u16) -> Option<&mut Entry> {
        self.entries.get_mut(usize::from(channel))?.as_mut()
    }

    fn close_if_unused(&mut self, at: usize) {
        let unused = |e: &Entry| e.users == 0 && e.channel.in_flight() == 0 && e.refused.is_empty();
        if let Some(slot) = self.entries.get_mut(at)
            && slot.as_ref().is_some_and(unused)
        {
            *slot = None;
        }
    }
}
