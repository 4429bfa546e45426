use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        magic in any::<bool>(),
        fix in any::<bool>(),
        room in any::<usize>(),
    ) {
        let mut bytes = bytes;
        if magic && bytes.len() >= 12 {
            bytes[..12].copy_from_slice(b"BASALTCF\x01\0\0\0");
        }
        if fix && bytes.len() >= 64 {
            let sum = crc32c(&bytes[..60]);
            bytes[60..64].copy_from_slice(&sum.to_le_bytes());
        }
        if let Read::Header(header) = Header::read(&bytes, room) {
            prop_assert!(magic && fix);
            prop_assert!(header.text.len as usize <= room);
            prop_assert!(header.generation.checked_add(1).is_some());
        }
    }

    #[test]
    fn slots_lie_within_their_partition_and_apart(
        num_blocks in prop_oneof![0..5000_u64, any::<u64>()],
        shift in 9..20_u32,
    ) {
        let Some(layout) = Layout::new(num_blocks, 1 << shift) else { return Ok(()) };
        let blocks = (layout.text_len_max() >> shift) as u64;
        prop_assert!(blocks > 0);
        let headers = Slot::BOTH.map(|slot| layout.header_lba(slot));
        let texts = Slot::BOTH.map(|slot| layout.text_lba(slot));
        prop_assert!(headers[0] < headers[1] && headers[1] < texts[0]);
        prop_assert_eq!((layout.headers_len() as u64) >> shift, texts[0]);
        prop_assert!(texts[0] + blocks <= texts[1] && texts[1] + blocks <= num_blocks);
    }

    #[test]
    fn a_header_comes_back_as_it_was_written(
        generation in 1..u64::MAX,
        words in any::<[u32; 4]>(),
        other in 1..u64::MAX,
    ) {
        let [len, crc, handed_len, handed_crc] = words;
        let handed_over = Mark { len: handed_len, crc: handed_crc };
        let header = Header { generation, text: Mark { len, crc }, handed_over };
        let mut block = [0xa5; 512];
        header.write(&mut block);
        let read = Header::read(&block, u32::MAX as usize);
        prop_assert_eq!(read, Read::Header(header));
        let second = Read::Header(Header { generation: other, ..header });
        let newest = newest_first([read, second]).next().unwrap();
        prop_assert_eq!(newest.1.generation, generation.max(other));
    }
}
