//! One transfer's buffers, dealt out in parts and put together again.

use alloc::vec::Vec;

use basalt_env::{DmaBuf, DmaPool, OutOfDmaMemory};

use crate::SgList;
use crate::copy::{copy, copy_of};

/// So many bytes of a transfer for one list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Run {
    /// The number of the list that they are in.
    pub list: usize,
    /// How many bytes.
    pub len: usize,
    /// Whether they are one of [`Scattered::extras`] and none of the transfer's data.
    pub is_extra: bool,
}

impl Run {
    /// Of the transfer's data.
    pub const fn of_data(list: usize, len: usize) -> Self {
        Self { list, len, is_extra: false }
    }
}

/// A transfer's data while it is under way in parts, such as to several bases.
///
/// Where a run ends inside a buffer, the buffer is cut; all that is in one list, of however many
/// runs, goes together.
#[derive(Debug, Default)]
pub struct Scattered {
    /// What goes along besides, in the order of the runs it is for; here before and after.
    pub extras: Vec<DmaBuf>,
    /// The list that the buffers were in, now empty. What was one buffer has none.
    container: SgList,
    /// The buffers' lengths.
    lens: Vec<usize>,
    /// The transfer's own buffers, if others stand in for them.
    bounced: Option<SgList>,
    /// What is under way or will be.
    lists: Vec<Vec<DmaBuf>>,
}

/// When buffers have others stand in for them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bounce {
    /// If they are shared, or cannot be cut where they have to be.
    IfNeeded,
    /// In any case.
    Always,
}

/// A piece of a buffer for one list.
struct Cut {
    buf: usize,
    /// Where in the buffer it begins, and how long it is.
    at: usize,
    len: usize,
    list: usize,
    is_extra: bool,
}

impl Scattered {
    /// Deals out `data` into so many lists by `runs`, which are as long together. Buffers that
    /// cannot be cut have others stand in for them; with [`Bounce::Always`] all have, which are as
    /// large as can be.
    ///
    /// # Errors
    /// There is no memory to stand in for buffers that cannot be cut: they are shared, or a run
    /// ends where no block of memory can. Nothing has happened then.
    pub fn scatter<R: Iterator<Item = Run>>(
        &mut self,
        data: &mut SgList,
        lists: usize,
        runs: impl Fn() -> R,
        pool: &DmaPool,
        bounce: Bounce,
    ) -> Result<(), OutOfDmaMemory> {
        self.measure(data);
        let ends = |cut: &Cut| cut.is_extra || cut.at + cut.len == self.lens[cut.buf];
        let clean = |cut: Cut| ends(&cut) || (cut.at + cut.len).is_multiple_of(512);
        let owned = matches!(data, SgList::One(_) | SgList::Many(_));
        if bounce == Bounce::Always || !owned || !cuts(&self.lens, runs()).all(clean) {
            let stand_in = copy_of(data.as_slice(), pool)?;
            self.bounced = Some(core::mem::replace(data, stand_in));
            self.measure(data);
        }
        if self.lists.len() < lists {
            self.lists.resize_with(lists, Vec::new);
        }
        self.extras.reverse();
        let mut bufs = Bufs::take(data, &mut self.container);
        let mut rest = None;
        for cut in cuts(&self.lens, runs()) {
            if cut.is_extra {
                self.lists[cut.list].extend(self.extras.pop());
                continue;
            }
            let Some(mut buf) = rest.take().or_else(|| bufs.next()) else { break };
            let end = cut.at + cut.len;
            rest = if end < self.lens[cut.buf] { buf.split_off(cut.len) } else { None };
            self.lists[cut.list].push(buf);
        }
        bufs.put_back(&mut self.container);
        Ok(())
    }

    /// What is in a list, to be sent.
    pub fn take(&mut self, list: usize) -> SgList {
        let list = &mut self.lists[list];
        match list.len() {
            0 => SgList::Empty,
            1 => list.pop().map_or(SgList::Empty, SgList::One),
            _ => SgList::Many(core::mem::take(list)),
        }
    }

    /// How many buffers are in a list.
    pub fn len(&self, list: usize) -> usize {
        self.lists.get(list).map_or(0, Vec::len)
    }

    /// It has come back.
    pub fn give_back(&mut self, list: usize, data: SgList) {
        match data {
            SgList::One(buf) => self.lists[list].push(buf),
            SgList::Many(bufs) => self.lists[list] = bufs,
            SgList::Empty | SgList::Blocks(_) | SgList::Shared(_) | SgList::Nvme(_) => {}
        }
    }

    /// Puts the transfer's data together again, once all lists have been given back. With
    /// `fill`, buffers that others stood in for get what these have now.
    pub fn gather(&mut self, runs: impl Iterator<Item = Run>, fill: bool) -> SgList {
        self.lists.iter_mut().for_each(|list| list.reverse());
        let mut container = core::mem::take(&mut self.container);
        let mut last: Option<DmaBuf> = None;
        for cut in cuts(&self.lens, runs) {
            let Some(part) = self.lists[cut.list].pop() else { continue };
            if cut.is_extra {
                self.extras.push(part);
                continue;
            }
            let begins = cut.at == 0;
            last = match last.take() {
                Some(mut buf) if !begins => {
                    // They are parts of one, so that nothing is left over.
                    let _ = buf.join(part);
                    Some(buf)
                }
                Some(buf) => {
                    push(&mut container, buf);
                    Some(part)
                }
                None => Some(part),
            };
        }
        if let Some(buf) = last {
            push(&mut container, buf);
        }
        match self.bounced.take() {
            None => container,
            Some(mut own) => {
                if fill {
                    copy(container.as_slice(), own.as_mut_slice());
                }
                own
            }
        }
    }

    fn measure(&mut self, data: &SgList) {
        self.lens.clear();
        self.lens.extend(data.as_slice().iter().map(DmaBuf::len));
    }
}

/// Cuts buffers of these lengths where runs meet.
fn cuts(lens: &[usize], mut runs: impl Iterator<Item = Run>) -> impl Iterator<Item = Cut> {
    let mut rest: Option<Run> = None;
    let (mut buf, mut at) = (0, 0);
    core::iter::from_fn(move || {
        let run = match rest.take() {
            Some(run) => run,
            None => runs.next()?,
        };
        let Run { list, is_extra, .. } = run;
        if is_extra {
            return Some(Cut { buf, at, len: run.len, list, is_extra });
        }
        let len = *lens.get(buf)?;
        let cut = Cut { buf, at, len: run.len.min(len - at), list, is_extra };
        at += cut.len;
        if at == len {
            (buf, at) = (buf + 1, 0);
        }
        rest = (run.len > cut.len).then(|| Run { len: run.len - cut.len, ..run });
        Some(cut)
    })
}

/// The buffers of a list, taken out of it.
enum Bufs {
    One(Option<DmaBuf>),
    Many(Vec<DmaBuf>),
}

impl Bufs {
    fn take(data: &mut SgList, container: &mut SgList) -> Self {
        *container = SgList::Empty;
        match core::mem::take(data) {
            SgList::One(buf) => Self::One(Some(buf)),
            SgList::Many(mut bufs) => {
                bufs.reverse();
                Self::Many(bufs)
            }
            _ => Self::One(None),
        }
    }

    fn next(&mut self) -> Option<DmaBuf> {
        match self {
            Self::One(buf) => buf.take(),
            Self::Many(bufs) => bufs.pop(),
        }
    }

    fn put_back(self, container: &mut SgList) {
        if let Self::Many(bufs) = self {
            *container = SgList::Many(bufs);
        }
    }
}

fn push(container: &mut SgList, buf: DmaBuf) {
    match container {
        SgList::Many(bufs) => bufs.push(buf),
        _ => *container = SgList::One(buf),
    }
}
