//! A firmware that does nothing, so that no one but the client touches the devices.

/// The image of a PC's firmware for `-bios`, 64 KiB: the processor stops at once.
///
/// With it the machine runs, so that clocks go on, requests that were stopped by an error go on
/// after `cont`, and the machine can be migrated; with `-S` they do not.
#[must_use]
pub fn halt() -> Vec<u8> {
    /// Where x86 processors start, from the end.
    const RESET: usize = 16;
    /// `cli; hlt; jmp` to the `hlt`.
    const CODE: [u8; 4] = [0xfa, 0xf4, 0xeb, 0xfd];
    let mut image = vec![0xff; 64 << 10];
    let at = image.len() - RESET;
    image[at..at + CODE.len()].copy_from_slice(&CODE);
    image
}
