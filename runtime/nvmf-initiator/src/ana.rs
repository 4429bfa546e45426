//! How well each namespace is reached by a path: the Asymmetric Namespace Access log page (base
//! specification 2.0 §5.16.1.13).

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use basalt_nvme_spec::{AnaGroup, AnaHeader, AnaState, Command, LogPageId, NSID_ALL};
use zerocopy::FromBytes;

use super::error::PathError;
use super::session::Session;
use basalt_nvmf_host::Access;

/// CMIC: the controller reports asymmetric access.
const REPORTS_ANA: u8 = 1 << 3;
/// Bytes read at a time: what every controller transfers at once.
const PIECE_LEN: usize = 4096;
/// Largest log page that is read, bytes.
const PAGE_LEN_MAX: usize = 256 << 10;
/// How often the page is read again that changes while it is read.
const TRIES_MAX: u32 = 4;

/// The access of each namespace that the page names; those it does not name are accessible.
pub(super) async fn read(session: &Session) -> Result<BTreeMap<u32, Access>, PathError> {
    if session.identify.cmic & REPORTS_ANA == 0 {
        return Ok(BTreeMap::new());
    }
    for _ in 0..TRIES_MAX {
        let page = read_page(session).await?;
        let after = read_piece(session, 0, size_of::<AnaHeader>()).await?;
        if page.get(..size_of::<u64>()) == after.get(..size_of::<u64>()) {
            return parse(&page);
        }
    }
    Err(PathError::BadData)
}

/// Reads as much of the page as it has, and no more, for what is behind its end cannot be read.
async fn read_page(session: &Session) -> Result<Vec<u8>, PathError> {
    let mut page = Vec::new();
    loop {
        let left = needed(&page).saturating_sub(page.len());
        if left == 0 {
            return Ok(page);
        }
        if page.len() + left > PAGE_LEN_MAX {
            return Err(PathError::BadData);
        }
        let piece = read_piece(session, page.len() as u64, left.min(PIECE_LEN)).await?;
        page.extend(piece);
    }
}

/// How long the page is at least, as far as what there is of it says.
fn needed(page: &[u8]) -> usize {
    let mut len = size_of::<AnaHeader>();
    let Ok((header, mut rest)) = AnaHeader::read_from_prefix(page) else { return len };
    for _ in 0..header.groups.get() {
        len += size_of::<AnaGroup>();
        let Ok((group, after)) = AnaGroup::read_from_prefix(rest) else { return len };
        let nsids_len = (group.nsids.get() as usize).saturating_mul(4);
        len = len.saturating_add(nsids_len);
        let Some(after) = after.get(nsids_len..) else { return len };
        rest = after;
    }
    len
}

async fn read_piece(session: &Session, offset: u64, len: usize) -> Result<Vec<u8>, PathError> {
    let id = LogPageId::ASYMMETRIC_NAMESPACE_ACCESS;
    let command = Command::get_log_page(id, NSID_ALL, offset, len as u32);
    Ok(session.read(command, len).await?.as_slice()[..len].to_vec())
}

/// Every group's state goes to the namespaces it names.
fn parse(page: &[u8]) -> Result<BTreeMap<u32, Access>, PathError> {
    let mut found = BTreeMap::new();
    let (header, mut rest) = AnaHeader::read_from_prefix(page).map_err(|_| PathError::BadData)?;
    for _ in 0..header.groups.get() {
        let (group, after) = AnaGroup::read_from_prefix(rest).map_err(|_| PathError::BadData)?;
        let len = (group.nsids.get() as usize).checked_mul(4).ok_or(PathError::BadData)?;
        let (nsids, after) = after.split_at_checked(len).ok_or(PathError::BadData)?;
        let access = access(group.state)?;
        for nsid in nsids.chunks_exact(4) {
            let nsid = u32::read_from_bytes(nsid).map_err(|_| PathError::BadData)?;
            found.insert(u32::from_le(nsid), access);
        }
        rest = after;
    }
    Ok(found)
}

fn access(state: u8) -> Result<Access, PathError> {
    Ok(match AnaState::from_bits(state).ok_or(PathError::BadData)? {
        AnaState::Optimized => Access::Optimized,
        AnaState::NonOptimized => Access::NonOptimized,
        AnaState::Inaccessible => Access::Inaccessible,
        AnaState::PersistentLoss => Access::PersistentLoss,
        AnaState::Change => Access::Changing,
    })
}

#[cfg(test)]
mod tests {
    use zerocopy::IntoBytes;

    use super::*;

    fn page(groups: &[(u8, &[u32])]) -> Vec<u8> {
        let header = AnaHeader { groups: (groups.len() as u16).into(), ..AnaHeader::default() };
        let mut bytes = header.as_bytes().to_vec();
        for (state, nsids) in groups {
            let nsids_len = (nsids.len() as u32).into();
            let group = AnaGroup { nsids: nsids_len, state: *state, ..AnaGroup::default() };
            bytes.extend(group.as_bytes());
            nsids.iter().for_each(|nsid| bytes.extend(nsid.to_le_bytes()));
        }
        bytes
    }

    #[test]
    fn each_namespace_has_the_state_of_its_group() {
        let page = page(&[(1, &[1, 7]), (2, &[]), (3, &[2]), (0xf, &[9])]);
        let found = parse(&page).unwrap();
        let expected = [
            (1, Access::Optimized),
            (2, Access::Inaccessible),
            (7, Access::Optimized),
            (9, Access::Changing),
        ];
        assert_eq!(found.into_iter().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn the_page_is_read_to_its_end_however_little_is_known_of_it() {
        let whole = page(&[(1, &[1, 7]), (2, &[]), (3, &[2])]);
        for len in 0..whole.len() {
            let needed = needed(&whole[..len]);
            assert!(needed > len && needed <= whole.len(), "{needed} after {len}");
        }
        assert_eq!(needed(&whole), whole.len());
        let endless = page(&[(1, &[])]);
        let endless: Vec<u8> = endless[..20].iter().copied().chain([0xff; 12]).collect();
        assert!(needed(&endless) < usize::MAX);
    }

    #[test]
    fn a_page_that_ends_early_or_has_an_unknown_state_is_refused() {
        let whole = page(&[(1, &[1, 7]), (2, &[3])]);
        for len in 0..whole.len() {
            assert_eq!(parse(&whole[..len]), Err(PathError::BadData), "{len} bytes");
        }
        assert_eq!(parse(&page(&[(5, &[1])])), Err(PathError::BadData));
    }
}
