//! One transfer's buffers, dealt out to several bases and put together again.

use alloc::vec::Vec;

use basalt_env::{DmaBuf, DmaPool, OutOfDmaMemory};

use crate::SgList;
use crate::copy::{copy, copy_of};

/// A transfer's data while its bases have it.
///
/// A run is so many bytes for one base. Where a run ends inside a buffer, the buffer is cut; all
/// that one base gets, of however many runs, is one list.
#[derive(Default)]
pub(super) struct Scattered {
    /// The list that the buffers were in, now empty. What was one buffer has none.
    container: SgList,
    /// The buffers' lengths.
    lens: Vec<usize>,
    /// The transfer's own buffers, if others stand in for them.
    bounced: Option<SgList>,
    /// What each base has or will get.
    lists: Vec<Vec<DmaBuf>>,
}

/// A piece of a buffer for one base.
struct Cut {
    buf: usize,
    /// Where in the buffer it begins, and how long it is.
    at: usize,
    len: usize,
    base: usize,
}

impl Scattered {
    /// Deals out `data` by `runs` of `(base, bytes)`, which are as long together.
    ///
    /// # Errors
    /// There is no memory to stand in for buffers that cannot be cut: they are shared, or a run
    /// ends where no block of memory can. Nothing has happened then.
    pub(super) fn scatter<R: Iterator<Item = (usize, usize)>>(
        &mut self,
        data: &mut SgList,
        bases: usize,
        runs: impl Fn() -> R,
        pool: &DmaPool,
    ) -> Result<(), OutOfDmaMemory> {
        self.measure(data);
        let whole = |cut: &Cut| cut.at + cut.len == self.lens[cut.buf];
        let clean = |cut: Cut| whole(&cut) || (cut.at + cut.len).is_multiple_of(512);
        let owned = matches!(data, SgList::One(_) | SgList::Many(_));
        if !owned || !cuts(&self.lens, runs()).all(clean) {
            let stand_in = copy_of(data.as_slice(), pool)?;
            self.bounced = Some(core::mem::replace(data, stand_in));
            self.measure(data);
        }
        self.lists.resize_with(bases, Vec::new);
        let mut bufs = Bufs::take(data, &mut self.container);
        let mut rest = None;
        for cut in cuts(&self.lens, runs()) {
            let Some(mut buf) = rest.take().or_else(|| bufs.next()) else { break };
            let end = cut.at + cut.len;
            rest = if end < self.lens[cut.buf] { buf.split_off(cut.len) } else { None };
            self.lists[cut.base].push(buf);
        }
        bufs.put_back(&mut self.container);
        Ok(())
    }

    /// What `base` gets.
    pub(super) fn list(&mut self, base: usize) -> SgList {
        let list = &mut self.lists[base];
        match list.len() {
            0 => SgList::Empty,
            1 => list.pop().map_or(SgList::Empty, SgList::One),
            _ => SgList::Many(core::mem::take(list)),
        }
    }

    /// It has come back.
    pub(super) fn give_back(&mut self, base: usize, list: SgList) {
        match list {
            SgList::One(buf) => self.lists[base].push(buf),
            SgList::Many(bufs) => self.lists[base] = bufs,
            SgList::Empty | SgList::Blocks(_) | SgList::Shared(_) | SgList::Nvme(_) => {}
        }
    }

    /// Puts the transfer's data together again, once every base has given back what it had. With
    /// `fill`, buffers that others stood in for get what these have now.
    pub(super) fn gather(
        &mut self,
        runs: impl Iterator<Item = (usize, usize)>,
        fill: bool,
    ) -> SgList {
        self.lists.iter_mut().for_each(|list| list.reverse());
        let mut container = core::mem::take(&mut self.container);
        let mut last: Option<DmaBuf> = None;
        for cut in cuts(&self.lens, runs) {
            let Some(part) = self.lists[cut.base].pop() else { continue };
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
fn cuts(
    lens: &[usize],
    mut runs: impl Iterator<Item = (usize, usize)>,
) -> impl Iterator<Item = Cut> {
    let mut run = None;
    let (mut buf, mut at) = (0, 0);
    core::iter::from_fn(move || {
        let len = *lens.get(buf)?;
        let (base, left) = match run.take() {
            Some(run) => run,
            None => runs.next()?,
        };
        let cut = Cut { buf, at, len: left.min(len - at), base };
        at += cut.len;
        if at == len {
            (buf, at) = (buf + 1, 0);
        }
        run = (left > cut.len).then(|| (base, left - cut.len));
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
