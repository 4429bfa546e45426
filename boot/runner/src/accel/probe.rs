//! The trial guest: enters 64-bit mode and writes to the exit port.

/// The value it writes when it came through.
pub(super) const SUCCESS: u8 = 0x2a;

const BASE: u32 = 0x10_0000;
const PML4: usize = 0x1000;
const PDPT: usize = 0x2000;
const DIRECTORY: usize = 0x3000;
const SEGMENT_SIZE: usize = 0x4000;
const GDT_POINTER: usize = 0x60;
const GDT: usize = 0x68;
const LONG_MODE: usize = 0x40;
const SEGMENT_OFFSET: u32 = 0x1000;

/// 32-bit entry at [`BASE`]: paging, PAE and long mode on, then a far jump to [`LONG_MODE`].
const ENTRY: &[u8] = &[
    0xb8, 0x00, 0x10, 0x10, 0x00, // mov eax, BASE + PML4
    0x0f, 0x22, 0xd8, // mov cr3, eax
    0x0f, 0x20, 0xe0, // mov eax, cr4
    0x83, 0xc8, 0x20, // or eax, PAE
    0x0f, 0x22, 0xe0, // mov cr4, eax
    0xb9, 0x80, 0x00, 0x00, 0xc0, // mov ecx, EFER
    0x0f, 0x32, // rdmsr
    0x0d, 0x00, 0x01, 0x00, 0x00, // or eax, LME
    0x0f, 0x30, // wrmsr
    0x0f, 0x20, 0xc0, // mov eax, cr0
    0x0d, 0x01, 0x00, 0x00, 0x80, // or eax, PG | PE
    0x0f, 0x22, 0xc0, // mov cr0, eax
    0x0f, 0x01, 0x15, 0x60, 0x00, 0x10, 0x00, // lgdt [BASE + GDT_POINTER]
    0xea, 0x40, 0x00, 0x10, 0x00, 0x08, 0x00, // jmp 8:BASE + LONG_MODE
];

/// 64-bit code; the value only comes out right if 64-bit registers work.
const SUCCEED: &[u8] = &[
    0x48, 0xb8, 0, 0, 0, 0, SUCCESS, 0, 0, 0, // mov rax, SUCCESS << 32
    0x48, 0xc1, 0xe8, 0x20, // shr rax, 32
    0xba, 0xf4, 0x00, 0x00, 0x00, // mov edx, 0xf4
    0xef, // out dx, eax
    0xf4, // 1: hlt
    0xeb, 0xfd, // jmp 1b
];

/// The guest as an ELF file with a PVH entry: headers, the note, then one segment.
pub(super) fn elf() -> Vec<u8> {
    let mut file = Vec::new();
    file.extend([0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    push16(&mut file, &[2, 62]); // executable, x86-64
    push32(&mut file, &[1]);
    push64(&mut file, &[u64::from(BASE), 64, 0]); // entry, program headers, no sections
    push32(&mut file, &[0]);
    push16(&mut file, &[64, 56, 2, 0, 0, 0]);
    let note_offset = 64 + 2 * 56;
    program_header(&mut file, [4, 4], [note_offset, 0, 20, 20, 4]); // PT_NOTE
    let size = SEGMENT_SIZE as u64;
    let (offset, base) = (u64::from(SEGMENT_OFFSET), u64::from(BASE));
    program_header(&mut file, [1, 7], [offset, base, size, size, 0x1000]); // PT_LOAD
    push32(&mut file, &[4, 4, 18, u32::from_le_bytes(*b"Xen\0"), BASE]);
    file.resize(SEGMENT_OFFSET as usize, 0);
    file.extend(segment());
    file
}

fn segment() -> Vec<u8> {
    let mut segment = vec![0; SEGMENT_SIZE];
    let mut put = |at: usize, bytes: &[u8]| segment[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, ENTRY);
    put(LONG_MODE, SUCCEED);
    put(GDT_POINTER, &23u16.to_le_bytes());
    put(GDT_POINTER + 2, &(BASE + GDT as u32).to_le_bytes());
    put(GDT + 8, &0x00af_9b00_0000_ffff_u64.to_le_bytes());
    let table = |at: usize| (u64::from(BASE) + at as u64) | 3;
    put(PML4, &table(PDPT).to_le_bytes());
    put(PDPT, &table(DIRECTORY).to_le_bytes());
    put(DIRECTORY, &0x83u64.to_le_bytes()); // the first 2 MiB, mapped as they are
    segment
}

/// `[type, flags]` and `[offset, address, size in file, size in memory, alignment]`.
fn program_header(file: &mut Vec<u8>, kind: [u32; 2], place: [u64; 5]) {
    let [offset, address, file_size, memory_size, alignment] = place;
    push32(file, &kind);
    push64(file, &[offset, address, address, file_size, memory_size, alignment]);
}

fn push16(file: &mut Vec<u8>, values: &[u16]) {
    file.extend(values.iter().flat_map(|value| value.to_le_bytes()));
}

fn push32(file: &mut Vec<u8>, values: &[u32]) {
    file.extend(values.iter().flat_map(|value| value.to_le_bytes()));
}

fn push64(file: &mut Vec<u8>, values: &[u64]) {
    file.extend(values.iter().flat_map(|value| value.to_le_bytes()));
}
