use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use basalt_env::CoreId;
use basalt_reactor::Local;

use super::{Redundant, Serial};
use crate::BaseChannel;

/// One core's ways to the bases, as they are now.
pub(super) struct Legs {
    pub(super) group: Arc<Redundant>,
    pub(super) local: Local,
    /// The generation of the members that `list` is of.
    seen: u32,
    pub(super) list: Vec<Leg>,
    /// Of members that were left out, until all is back from them.
    retired: Vec<Leg>,
    /// The bases that may be read, in order: place and serial number.
    readers: Vec<(usize, Serial)>,
}

/// The way to a base.
pub(super) struct Leg {
    pub(super) place: usize,
    pub(super) serial: Serial,
    /// Whether the base has all blocks, so that it may be read.
    pub(super) in_sync: bool,
    pub(super) channel: BaseChannel,
}

/// What is to be known of the bases while their channels are polled.
pub(super) struct View<'a> {
    pub(super) group: &'a Redundant,
    pub(super) core: CoreId,
    pub(super) readers: &'a [(usize, Serial)],
}

impl Legs {
    pub(super) fn new(group: Arc<Redundant>, local: &Local) -> Self {
        let seen = group.generation.load(Ordering::Acquire).wrapping_sub(1);
        let (list, retired, readers) = (Vec::new(), Vec::new(), Vec::new());
        let mut legs = Self { seen, group, local: local.clone(), list, retired, readers };
        legs.refresh();
        legs
    }

    /// Sees to it that they are those of the members.
    #[inline]
    pub(super) fn refresh(&mut self) {
        while self.group.generation.load(Ordering::Acquire) != self.seen {
            self.renew();
        }
    }

    #[cold]
    fn renew(&mut self) {
        self.seen = self.group.generation.load(Ordering::Acquire);
        let current: Vec<_> = {
            let members = self.group.members.lock();
            let there = members.iter().enumerate().filter_map(|(place, member)| {
                Some((place, member.serial, member.in_sync, member.descriptor.clone()?))
            });
            there.collect()
        };
        let gone = |leg: &mut Leg| !current.iter().any(|(_, serial, ..)| *serial == leg.serial);
        self.retired.extend(self.list.extract_if(.., gone));
        for (place, serial, in_sync, descriptor) in current {
            if let Some(leg) = self.list.iter_mut().find(|leg| leg.serial == serial) {
                leg.in_sync = in_sync;
                continue;
            }
            match descriptor.base_channel(&self.local) {
                Ok(channel) => self.list.push(Leg { place, serial, in_sync, channel }),
                // It cannot be written from here, so it would be left behind.
                Err(error) => {
                    self.group.drop_member(serial, &error);
                }
            }
        }
        self.readers.clear();
        let readers = self.list.iter().filter(|leg| leg.in_sync);
        self.readers.extend(readers.map(|leg| (leg.place, leg.serial)));
    }

    pub(super) fn view(&self) -> View<'_> {
        View { group: &self.group, core: self.local.core(), readers: &self.readers }
    }

    /// What is to be known of the bases, and the channels of all that anything can be out at.
    pub(super) fn split(&mut self) -> (View<'_>, impl Iterator<Item = &mut Leg>) {
        let Self { group, local, list, retired, readers, .. } = self;
        (View { group, core: local.core(), readers }, list.iter_mut().chain(retired.iter_mut()))
    }

    /// Whether there are enough of them to have all blocks.
    pub(super) fn suffice(&self) -> bool {
        self.readers.len() >= self.group.needed
    }

    pub(super) fn find(&mut self, serial: Serial) -> Option<&mut Leg> {
        self.list.iter_mut().find(|leg| leg.serial == serial)
    }

    /// Lets go of those of bases that are gone once nothing is out there.
    #[inline]
    pub(super) fn drop_idle(&mut self) {
        if !self.retired.is_empty() {
            self.retired.retain(|leg| leg.channel.in_flight() > 0);
        }
    }
}
