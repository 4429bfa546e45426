//! raid5f: stripes with parity. A write is of whole stripes, so that no parity has to be read, and
//! none is out of step with blocks that were not written.

mod flights;
#[cfg(test)]
mod tests;

use alloc::rc::Rc;
use alloc::sync::Arc;
use alloc::vec::Vec;

use basalt_env::{DmaBuf, DmaPool, OutOfDmaMemory, Work};
use basalt_reactor::Local;

use self::flights::Flights;
use super::Redundant;
use super::legs::{Leg, Legs};
use super::stripes::Stripes;
use crate::{Io, IoChannel, Op, OpenError, RejectReason};

/// One core's way to all bases.
///
/// ```text
///   a read of a piece of a strip  to the base that has it, with another block number, and back
///   any other read                its data dealt out, a child for each piece
///     a piece that has no base, or fails there: made of all other strips of its stripe
///   any other                     (1) its data dealt out with its parity, a child for each base
///                                 (2) all are back: a base that failed it is left out, if it is
///                                     one; its data put together, ended
/// ```
pub(super) struct ParityChannel {
    legs: Legs,
    flights: Flights,
    ended: Vec<Io>,
}

impl ParityChannel {
    pub(super) fn new(
        group: Arc<Redundant>,
        stripes: Stripes,
        local: &Local,
    ) -> Result<Self, OpenError> {
        let pool: Rc<DmaPool> = local.service().ok_or(OpenError::NoMemory)?;
        let block_shift = group.info.block_size.trailing_zeros();
        let legs = Legs::new(group, local);
        if !legs.suffice() {
            return Err(OpenError::NoMemory);
        }
        let flights = Flights::new(stripes, block_shift, pool, local)?;
        Ok(Self { legs, flights, ended: Vec::new() })
    }

    fn read(&mut self, io: &mut Io) -> Result<(), RejectReason> {
        let piece = self.flights.stripes.piece(io.lba);
        let has_it = |leg: &&mut Leg| leg.in_sync && leg.place == piece.place;
        if u64::from(io.blocks) <= piece.blocks
            && let Some(leg) = self.legs.list.iter_mut().find(has_it)
        {
            let (tag, lba) = (io.tag, io.lba);
            self.flights.mark(io, piece.at)?;
            let Err(reason) = leg.channel.submit(io) else { return Ok(()) };
            self.flights.unmark(io, tag, lba);
            if reason == RejectReason::QueueFull {
                return Err(reason);
            }
        }
        let ended = self.flights.read_in_pieces(&self.legs.view(), io, None)?;
        self.ended.extend(ended);
        self.send();
        Ok(())
    }

    fn write(&mut self, io: &mut Io) -> Result<(), RejectReason> {
        let names_blocks = io.op != Op::Flush;
        if names_blocks && !io.is_of_units(self.flights.stripes.stripe() as u32) {
            return Err(RejectReason::Unaligned);
        }
        if !self.legs.suffice() {
            return Err(RejectReason::Removed);
        }
        let blocks = if names_blocks { u64::from(io.blocks) } else { 0 };
        let group = &self.legs.group;
        let waits = group.is_in_window(io.lba, blocks);
        let counts = group.writes(self.legs.local.core());
        let Some(counts) = counts.filter(|_| !waits) else { return Err(RejectReason::QueueFull) };
        let bases = self.legs.list.iter().map(|leg| (leg.place, leg.serial));
        self.flights.write(io, bases, || counts.begin())?;
        self.send();
        Ok(())
    }

    /// Hands out what the bases take.
    fn send(&mut self) {
        while let Some((serial, mut io)) = self.flights.outbox.pop_front() {
            let leg = self.legs.find(serial);
            let in_sync = leg.as_ref().is_some_and(|leg| leg.in_sync);
            let sent = leg.map_or(Err(RejectReason::Removed), |leg| leg.channel.submit(&mut io));
            match sent {
                Ok(()) => {}
                Err(RejectReason::QueueFull) => {
                    return self.flights.outbox.push_front((serial, io));
                }
                Err(reason) => {
                    io.status = Err(reason.into());
                    if self.flights.judge(&self.legs.view(), serial, in_sync, &mut io) {
                        self.ended.push(io);
                    }
                }
            }
        }
    }
}

impl IoChannel for ParityChannel {
    fn submit(&mut self, io: &mut Io) -> Result<(), RejectReason> {
        self.legs.refresh();
        if !self.flights.outbox.is_empty() {
            return Err(RejectReason::QueueFull);
        }
        if io.op == Op::Read { self.read(io) } else { self.write(io) }
    }

    fn poll(&mut self, done: &mut dyn FnMut(&mut Io)) -> Work {
        self.legs.refresh();
        let mut count = 0;
        let Self { legs, flights, .. } = self;
        let (view, all) = legs.split();
        for Leg { serial, in_sync, channel, .. } in all {
            let _ = channel.poll(|io| {
                if flights.judge(&view, *serial, *in_sync, io) {
                    count += 1;
                    done(io);
                }
            });
        }
        self.legs.drop_idle();
        if !self.flights.outbox.is_empty() {
            self.send();
        }
        for mut io in self.ended.drain(..) {
            count += 1;
            done(&mut io);
        }
        Work(count)
    }
}

impl Drop for ParityChannel {
    fn drop(&mut self) {
        let view = self.legs.view();
        self.flights.lots().for_each(|lot| view.group.end_write(view.core, lot));
    }
}

/// Changes each byte of `all` by those of `one`.
pub(super) fn xor(all: &mut [u8], one: &[u8]) {
    all.iter_mut().zip(one).for_each(|(all, one)| *all ^= one);
}

/// The parity of each stripe of `data`: of so many strips, of so many bytes each.
fn add_parity(
    data: &[DmaBuf],
    strips: usize,
    strip_len: usize,
    pool: &DmaPool,
    parity: &mut Vec<DmaBuf>,
) -> Result<(), OutOfDmaMemory> {
    let mut at = 0;
    for mut bytes in data.iter().map(DmaBuf::as_slice) {
        while !bytes.is_empty() {
            let (strip, within) = (at / strip_len, at % strip_len);
            let is_first = strip.is_multiple_of(strips);
            if is_first && within == 0 {
                parity.push(pool.alloc(strip_len)?);
            }
            let (now, later) = bytes.split_at(bytes.len().min(strip_len - within));
            let Some(buf) = parity.last_mut() else { return Ok(()) };
            let target = &mut buf.as_mut_slice()[within..within + now.len()];
            if is_first {
                target.copy_from_slice(now);
            } else {
                xor(target, now);
            }
            at += now.len();
            bytes = later;
        }
    }
    Ok(())
}
