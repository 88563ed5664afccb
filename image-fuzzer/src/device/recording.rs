//! What a driver does with a device, as inputs to start from: its setting up, and a request of
//! each kind.

use qtest::block::{Disk, Features, Request, execute};
use qtest::{Guest, Op, Recorded, Result, Width, graph};

use super::program::{Program, Step};
use super::surface::{DATA, SELECT, Surface, config_write};

/// As many equal reads as are kept of those by which a driver waits: one, and another for what
/// happened meanwhile.
const KEPT_READS: usize = 2;

/// Inputs with more steps than this are left out: most of them are transfers word by word.
const MOST_STEPS: usize = 1500;

/// Where the part of the configuration space begins that is a device's own: PCI 3.0, section 6.7.
/// What is before it the setup of the surface has.
const CAPABILITIES: u32 = 0x40;

/// What a driver does.
pub(super) struct Recording {
    /// How it makes the device ready, with which all its programs begin.
    pub(super) opening: Vec<Step>,
    /// A request of each kind.
    pub(super) programs: Vec<Program>,
}

/// Records the driver of a path of the graph on a fresh machine.
///
/// # Errors
///
/// The driver cannot set the device up.
pub(super) fn record(
    path: &graph::Path,
    guest: &mut Guest,
    surface: &Surface,
) -> Result<Recording> {
    guest.start_record();
    let opened = path.open(guest);
    let recorded = guest.end_record();
    let mut disk = opened?;
    let start = [surface.setup.clone(), steps(recorded, surface)].concat();
    let opening = start.clone();
    let mut programs = vec![start.clone()];
    let mut all = start.clone();
    for request in requests(disk.as_mut(), guest)? {
        guest.start_record();
        // What the device refuses is as good as any.
        let _ = execute(disk.as_mut(), guest, &request);
        let recorded = steps(guest.end_record(), surface);
        programs.push([start.clone(), recorded.clone()].concat());
        all.extend(recorded);
    }
    guest.start_record();
    let is_reset = disk.reset(guest).is_ok();
    let recorded = steps(guest.end_record(), surface);
    if is_reset {
        programs.push([start, recorded.clone()].concat());
        all.extend(recorded);
    }
    programs.push(all);
    programs.retain(|steps| steps.len() <= MOST_STEPS);
    let programs = programs.into_iter().map(|steps| Program { steps });
    Ok(Recording {
        opening,
        programs: programs.collect(),
    })
}

/// A request of each kind that the device knows, and one that it refuses.
fn requests(disk: &mut dyn Disk, guest: &mut Guest) -> Result<Vec<Request>> {
    let block = disk.block_size();
    let length = u64::from(block);
    let Features {
        flush,
        discard,
        write_zeroes,
        scatter,
        ..
    } = *disk.features();
    let mut buffer = |lengths: &[u32]| guest.buffer(lengths, 4096);
    let mut requests = vec![
        Request::Read {
            offset: length,
            buffer: buffer(&[block])?,
        },
        Request::Write {
            offset: 2 * length,
            buffer: buffer(&[block])?,
            fua: false,
        },
        Request::Read {
            offset: disk.size(),
            buffer: buffer(&[block])?,
        },
    ];
    if scatter {
        requests.push(Request::Read {
            offset: 0,
            buffer: buffer(&[block, 2 * block, block])?,
        });
        requests.push(Request::Write {
            offset: 0,
            buffer: buffer(&[block, block])?,
            fua: true,
        });
    }
    if flush {
        requests.push(Request::Flush);
    }
    if discard {
        requests.push(Request::Discard {
            offset: 0,
            length: 8 * length,
        });
    }
    if write_zeroes {
        requests.push(Request::WriteZeroes {
            offset: 0,
            length: 8 * length,
            unmap: true,
        });
    }
    Ok(requests)
}

/// The steps of a record without those that find out where devices are, which the setup of the
/// surface does in few, and without the many reads by which a driver waits.
fn steps(recorded: Vec<Recorded>, surface: &Surface) -> Vec<Step> {
    let mut selected = 0;
    let mut kept: Vec<Step> = Vec::new();
    for recorded in recorded {
        match recorded.op {
            Op::Out {
                width: Width::L,
                port: SELECT,
                value,
            } => selected = value,
            Op::In { port, .. } if is_data(port) => {}
            Op::Out { width, port, value } if is_data(port) => {
                let offset = (selected & 0xfc) + u32::from(port - DATA);
                let function = selected & !0xff;
                if offset >= CAPABILITIES && surface.functions.contains(&function) {
                    kept.extend(config_write(function, offset, width, value));
                }
            }
            _ => {
                let is_read = recorded.op.is_read();
                let step = Step::from(recorded);
                let last = kept.len().checked_sub(KEPT_READS).map(|at| &kept[at..]);
                let is_waiting = last.is_some_and(|last| last.iter().all(|it| *it == step));
                if !(is_read && is_waiting) {
                    kept.push(step);
                }
            }
        }
    }
    kept
}

fn is_data(port: u16) -> bool {
    (DATA..DATA + 4).contains(&port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_to_the_device_and_long_waits_are_left_out() {
        let op = |line: &str| Recorded {
            op: line.parse().unwrap(),
            label: "register",
        };
        let surface = Surface {
            functions: vec![0x8000_0800],
            ..Surface::default()
        };
        let lines = [
            "outl 0xcf8 0x80000800",
            "inl 0xcfc",
            "outl 0xcf8 0x80000810",
            "outl 0xcfc 0xe0000000",
            "outl 0xcf8 0x80000840",
            "outw 0xcfe 0x8000",
            "outl 0xcf8 0x80001040",
            "outw 0xcfe 0x8000",
            "writel 0xe0000000 0x1",
            "readl 0xe0000004",
            "readl 0xe0000004",
            "readl 0xe0000004",
            "readl 0xe0000004",
            "writel 0xe0000000 0x1",
            "writel 0xe0000000 0x1",
            "writel 0xe0000000 0x1",
        ];
        let kept = steps(lines.map(op).into(), &surface);
        let kept: Vec<String> = kept
            .iter()
            .map(|it| it.to_string().split(" # ").next().unwrap().to_owned())
            .collect();
        assert_eq!(
            kept,
            [
                "outl 0xcf8 0x80000840",
                "outw 0xcfe 0x8000",
                "writel 0xe0000000 0x1",
                "readl 0xe0000004",
                "readl 0xe0000004",
                "writel 0xe0000000 0x1",
                "writel 0xe0000000 0x1",
                "writel 0xe0000000 0x1",
            ]
        );
    }
}
