use crate::{Disk, Failure, Request, status};

fn disk() -> Disk {
    Disk {
        blocks: 100,
        block_size: 4096,
        is_read_only: false,
        has_cache: true,
        queues: 1,
        segments_max: 1,
        segment_len_max: u32::MAX,
        discard_max: 10,
        write_zeroes_max: 10,
    }
}

#[test]
fn headers_count_sectors_whatever_the_blocks_are() {
    let header = disk().header(Request::Write(3));
    assert_eq!(header.as_slice()[..8], [1, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(header.as_slice()[8..], 24_u64.to_le_bytes());
    let header = disk().header(Request::Discard(2, 5));
    assert_eq!(header.as_slice().len(), 32);
    assert_eq!((header.as_slice()[0], header.as_slice()[8]), (11, 0));
    assert_eq!(header.as_slice()[16..24], 16_u64.to_le_bytes());
    assert_eq!(header.as_slice()[24..32], [40, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(disk().header(Request::Flush).as_slice()[0], 4);
}

#[test]
fn every_answer_means_something() {
    assert_eq!(status(0), Ok(()));
    assert_eq!(status(1), Err(Failure::Io));
    assert_eq!(status(2), Err(Failure::Unsupported));
    assert_eq!(status(0xff), Err(Failure::Unknown(0xff)));
}
