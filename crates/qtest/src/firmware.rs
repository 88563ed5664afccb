//! A firmware that does nothing, so that no one but the client touches the devices.

/// The memory of the machines that [`arguments`] are for, in bytes.
pub const RAM: u64 = 128 << 20;

/// The arguments of an emulator whose processor does nothing, with [`halt`] in the file `firmware`:
/// no devices but those that are asked for, no display, and [`RAM`].
#[must_use]
pub fn arguments(firmware: &str) -> Vec<String> {
    let ram = (RAM >> 20).to_string();
    [
        "-nodefaults",
        "-display",
        "none",
        "-m",
        &ram,
        "-bios",
        firmware,
    ]
    .map(str::to_owned)
    .into()
}

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
