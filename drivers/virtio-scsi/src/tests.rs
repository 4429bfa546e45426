use crate::*;

#[test]
fn a_header_has_unit_tag_and_command_where_the_host_looks_for_them() {
    let header = header(Address { target: 5, lun: 0x1234 }, 0x0102, Cdb::read(0x11_2233, 9));
    assert_eq!(header[..8], [1, 5, 0x52, 0x34, 0, 0, 0, 0]);
    assert_eq!(header[8..16], 0x0102_u64.to_le_bytes());
    assert_eq!(header[16..19], [0; 3]);
    assert_eq!(header[19..35], [0x88, 0, 0, 0, 0, 0, 0, 0x11, 0x22, 0x33, 0, 0, 0, 9, 0, 0]);
    let list = unmap_list(7, 3);
    assert_eq!((&list[..4], list[15], list[19]), (&[0, 22, 0, 16][..], 7, 3));
}

fn response(host: u8, status: u8, sense: &[u8]) -> [u8; RESPONSE_LEN] {
    let mut response = [0; RESPONSE_LEN];
    (response[10], response[11]) = (status, host);
    response[12..12 + sense.len()].copy_from_slice(sense);
    response
}

#[test]
fn every_answer_means_something() {
    let mut short = response(0, 0, &[]);
    short[4..8].copy_from_slice(&512_u32.to_le_bytes());
    assert_eq!(outcome(&short), Ok(512));
    assert_eq!(outcome(&response(3, 0, &[])), Err(Failure::BadTarget));
    assert_eq!(outcome(&response(5, 0, &[])), Err(Failure::TryAgain));
    assert_eq!(outcome(&response(0, 8, &[])), Err(Failure::TryAgain));
    assert_eq!(outcome(&response(0, 0x18, &[])), Err(Failure::Status(0x18)));
    assert_eq!(outcome(&response(9, 0, &[])), Err(Failure::Host(9)));
    let fixed = [0x70, 0, 3, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x11, 4];
    let medium = Sense { key: 3, code: (0x11, 4) };
    assert_eq!(outcome(&response(0, 2, &fixed)), Err(Failure::Sense(medium)));
    let descriptor = [0x72, 6, 0x2a, 9];
    assert_eq!(outcome(&response(0, 2, &descriptor)), Err(Failure::TryAgain));
    assert_eq!(outcome(&response(0, 2, &[])), Err(Failure::Sense(Sense::default())));
}

#[test]
fn what_a_disk_says_of_itself_is_read_and_what_it_leaves_out_is_nothing() {
    let mut capacity = [0; Capacity::LEN_16];
    capacity[7] = 99;
    capacity[10] = 2;
    assert_eq!(Capacity::read_16(&capacity), Capacity { blocks: 100, block_size: 512 });
    let full = Capacity::read_16(&[0xff; 12]);
    assert_eq!(full.blocks, u64::MAX, "no overflow");
    assert_eq!(Capacity::read_10(&[0, 0, 0, 9, 0, 0, 16, 0]).block_size, 4096);
    assert_eq!(Capacity::read_10(&[]).block_size, 0);
    assert!(Inquiry::read(&[0; 36]).is_disk && !Inquiry::read(&[5]).is_disk);
    assert!(!Inquiry::read(&[0x20]).is_disk && !Inquiry::read(&[]).is_disk);
    assert!(Provisioning::read(&[0, 0xb2, 0, 4, 0, 0x80]).has_unmap);
    assert_eq!(BlockLimits::read(&[]).unmap_max, 0);
    assert_eq!(serial_number(&[0, 0x80, 0, 6, b' ', b'a', b'b', b' ', b' ', b' ']), b"ab");
    assert_eq!(serial_number(&[0, 0x80, 0, 200, b'x']), b"x");
    assert_eq!(serial_number(&[0, 0x80]), b"");
}

#[test]
fn events_that_matter_are_told_from_others() {
    let event = |kind: u32| Event::read(&kind.to_le_bytes());
    for changed in [1, 3, 1 << 31, 1 << 31 | 2] {
        assert_eq!(event(changed), Event::Changed);
    }
    assert_eq!((event(0), event(2), Event::read(&[1])), (Event::Other, Event::Other, Event::Other));
}
