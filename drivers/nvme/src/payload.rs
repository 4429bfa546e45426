use alloc::vec::Vec;

use basalt_env::DmaBuf;

/// What a command carries: the submitter's own data, with the buffers among it.
///
/// It moves into the command's slot and comes back with the completion. While it is there nobody
/// can reach the buffers, so an implementation must own them for good: the buffers that
/// [`Self::segments`] names may not be shared with or taken by anyone else.
pub trait Payload {
    /// The buffers in order; each contributes its first `len()` bytes.
    fn segments(&self) -> &[DmaBuf];

    /// The only buffer, if there is just one; it may say no if it is not sure. The common case can
    /// be told apart at less cost than what all buffers are.
    #[inline(always)]
    fn only_segment(&self) -> Option<&DmaBuf> {
        match self.segments() {
            [only] => Some(only),
            _ => None,
        }
    }

    /// What of those bytes a command is to move; all of them if it does not say.
    fn window(&self) -> Option<Window> {
        None
    }

    /// Whether nothing is left in it that has to be dropped. It may say no if it is not sure.
    fn is_hollow(&self) -> bool {
        false
    }
}

/// A part of what a payload's buffers hold together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window {
    /// Bytes before it.
    pub skip: usize,
    /// Its own.
    pub bytes: usize,
}

/// Where on the bus the bytes are that a command is to move: address and length, in order.
pub(crate) fn pieces<T: Payload>(payload: &T) -> impl Iterator<Item = (u64, u64)> + Clone + '_ {
    let Window { mut skip, bytes: mut left } =
        payload.window().unwrap_or(Window { skip: 0, bytes: usize::MAX });
    payload.segments().iter().filter_map(move |segment| {
        let from = skip.min(segment.len());
        let len = (segment.len() - from).min(left);
        (skip, left) = (skip - from, left - len);
        (len > 0).then(|| (segment.phys().as_u64() + from as u64, len as u64))
    })
}

impl Payload for () {
    fn segments(&self) -> &[DmaBuf] {
        &[]
    }
}

impl Payload for DmaBuf {
    fn segments(&self) -> &[DmaBuf] {
        core::slice::from_ref(self)
    }
}

impl Payload for Vec<DmaBuf> {
    fn segments(&self) -> &[DmaBuf] {
        self
    }
}

impl<P: Payload> Payload for Option<P> {
    #[inline]
    fn segments(&self) -> &[DmaBuf] {
        self.as_ref().map_or(&[], P::segments)
    }
}

/// A payload with a word of the submitter's own beside it.
impl<P: Payload> Payload for (u64, P) {
    fn segments(&self) -> &[DmaBuf] {
        self.1.segments()
    }
}
