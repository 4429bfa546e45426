use alloc::vec::Vec;

use super::*;

const LIMITS: Limits = Limits {
    transfer_max: 16 * 1024,
    plain_max: 16 * 1024,
    block: 512,
    boundary: 0,
    sgls: None,
    dataless: Dataless { write_zeroes: 0, unmap: 0, verify: 0, write_uncorrectable: 0, copy: 0 },
};

fn piece(segments: &[Segment], skip: usize) -> Piece {
    let total: usize = segments.iter().map(|(_, len)| len).sum();
    next_piece(segments.iter().copied(), skip, total - skip, LIMITS)
}

fn direct(bufs: Range<usize>, bytes: usize) -> Piece {
    Piece::Direct { bufs, skip: 0, bytes }
}

fn inside(bufs: Range<usize>, skip: usize, bytes: usize) -> Piece {
    Piece::Direct { bufs, skip, bytes }
}

#[test]
fn a_buffer_of_up_to_the_limit_is_used_in_place() {
    assert_eq!(piece(&[(0x1200, 512)], 0), direct(0..1, 512));
    assert_eq!(piece(&[(0x1_0000, 16384)], 0), direct(0..1, 16384));
}

#[test]
fn buffers_that_meet_at_page_boundaries_go_together() {
    let all = [(0x1e00, 512), (0x8000, 4096), (0x3000, 512)];
    assert_eq!(piece(&all, 0), direct(0..3, 5120));
    assert_eq!(piece(&all, 512), direct(1..3, 4608));
}

#[test]
fn a_gap_inside_a_page_ends_the_command() {
    assert_eq!(piece(&[(0x1000, 1536), (0x8000, 512)], 0), direct(0..1, 1536));
    assert_eq!(piece(&[(0x1000, 4096), (0x8200, 512)], 0), direct(0..1, 4096));
    assert_eq!(piece(&[(0x1000, 1536), (0x8000, 512)], 1536), direct(1..2, 512));
}

#[test]
fn a_command_ends_on_a_block() {
    assert_eq!(piece(&[(0x1000, 4096), (0x8000, 100), (0x9000, 412)], 0), direct(0..1, 4096));
}

#[test]
fn a_command_begins_and_ends_inside_a_buffer() {
    assert_eq!(piece(&[(0x10_0000, 1 << 20)], 0), direct(0..1, 16384));
    assert_eq!(piece(&[(0x10_0000, 17408)], 16384), inside(0..1, 16384, 1024));
    let all = [(0x1000, 1536), (0x8000, 8192), (0xa000, 20_000)];
    assert_eq!(piece(&all, 512), inside(0..1, 512, 1024));
    assert_eq!(piece(&all, 1536 + 512), inside(1..3, 512, 16384));
    assert_eq!(piece(&[(0x1000, 4096), (0x8000, 700)], 4096), direct(1..2, 512));
    // Blocks that are in two buffers which do not meet.
    assert_eq!(piece(&[(0x1000, 700), (0x8000, 836)], 0), direct(0..1, 512));
    assert_eq!(piece(&[(0x1000, 700), (0x8000, 836)], 512), Piece::Bounced { bytes: 1024 });
}

#[test]
fn what_has_no_describable_block_is_bounced() {
    assert_eq!(piece(&[(0x1000, 100), (0x8000, 412)], 0), Piece::Bounced { bytes: 512 });
    let many: Vec<_> = (0..1024).map(|i| (i * 0x1000, 100)).collect();
    assert_eq!(piece(&many, 0), Piece::Bounced { bytes: 16384 });
}

#[test]
fn empty_buffers_are_passed_over() {
    let all = [(0x1000, 0), (0x2000, 4096), (0x3000, 0), (0x4000, 512)];
    assert_eq!(piece(&all, 0), direct(1..4, 4608));
    assert_eq!(piece(&all, 4096), direct(3..4, 512));
}

#[test]
fn bouncing_gathers_and_scatters_the_range() {
    let pool = basalt_hosted::Machine::new().pool(4 << 20);
    let buf = |bytes: &[u8]| {
        let mut buf = pool.alloc(bytes.len()).unwrap();
        buf.as_mut_slice().copy_from_slice(bytes);
        buf
    };
    let mut bufs = [buf(b"abc"), buf(b"defgh"), buf(b"ij")];
    let mut bounce = buf(b"......");
    gather(&bufs, 2, &mut bounce);
    assert_eq!(bounce.as_slice(), b"cdefgh");
    scatter(&buf(b"CDEFGHI"), &mut bufs, 2);
    let all: Vec<_> = bufs.iter().flat_map(|buf| buf.as_slice().to_vec()).collect();
    assert_eq!(all, b"abCDEFGHIj");
    gather(&bufs, 9, &mut bounce);
    assert_eq!(bounce.as_slice(), b"jdefgh");
}

#[test]
fn an_sgl_takes_buffers_wherever_they_lie() {
    let with = |granule| Limits { sgls: Some(Sgls { segments_max: 3, granule }), ..LIMITS };
    let of = |segments: &[Segment], granule| {
        let total = segments.iter().map(|(_, len)| len).sum();
        next_piece(segments.iter().copied(), 0, total, with(granule))
    };
    let all = [(0x1000, 1536), (0x8200, 100), (0x9000, 412), (0xa000, 512)];
    assert_eq!(of(&all, 1), direct(0..3, 2048));
    assert_eq!(of(&all, 4), direct(0..3, 2048));
    assert_eq!(of(&[(0x1000, 510), (0x8000, 514)], 1), direct(0..2, 1024));
    assert_eq!(of(&[(0x1000, 510), (0x8000, 514)], 4), Piece::Bounced { bytes: 1024 });
}

#[test]
fn a_boundary_ends_a_command_and_without_one_none_does() {
    let with = |boundary| Limits { boundary, ..LIMITS };
    for (lba, blocks, before) in [(0, 8, 8), (0, 9, 8), (7, 2, 1), (15, 1, 1), (20, 3, 3)] {
        assert_eq!(with(8).before_boundary(lba, blocks), before);
        assert_eq!(with(0).before_boundary(lba, blocks), blocks);
    }
    assert_eq!(with(100).before_boundary(250, 60), 50);
}
