use basalt_env::PhysAddr;

use crate::Machine;

#[test]
fn a_device_reaches_buffers_by_bus_address_only() {
    let machine = Machine::new();
    let pool = machine.pool(4 << 20);
    let mut buf = pool.alloc(4096).unwrap();
    buf.as_mut_slice()[..3].copy_from_slice(b"abc");
    let mut seen = [0; 3];
    machine.bus().read(buf.phys(), &mut seen).unwrap();
    assert_eq!(&seen, b"abc");
    let virt = PhysAddr::new(buf.as_slice().as_ptr() as u64);
    assert!(machine.bus().read(virt, &mut seen).is_err());
}

#[test]
fn accesses_past_an_arena_fail() {
    let machine = Machine::new();
    let pools = [machine.pool(4 << 20), machine.pool(4 << 20)];
    let buf = pools[0].alloc(4 << 20).unwrap();
    let end = buf.phys().offset((4 << 20) - 2);
    assert!(machine.bus().write(end, &[0; 2]).is_ok());
    assert!(machine.bus().write(end, &[0; 3]).is_err());
    assert!(machine.bus().read_u64(PhysAddr::new(u64::MAX)).is_err());
}

#[test]
fn freed_memory_is_poisoned() {
    let machine = Machine::new();
    let pool = machine.pool(4 << 20);
    let buf = pool.alloc(512).unwrap();
    let at = buf.phys();
    drop(buf);
    assert_eq!(machine.bus().read_u64(at).unwrap(), 0xdfdf_dfdf_dfdf_dfdf);
}

#[test]
fn a_bus_may_be_used_from_any_thread() {
    let machine = Machine::new();
    let mut buf = machine.pool(4 << 20).alloc(512).unwrap();
    buf.as_mut_slice().fill(3);
    let (bus, at) = (machine.bus(), buf.phys());
    let read = std::thread::spawn(move || bus.read_u64(at));
    assert_eq!(read.join().unwrap(), Ok(0x0303_0303_0303_0303));
}
