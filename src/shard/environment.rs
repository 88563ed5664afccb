//! `--shard auto`: which share, from the variables of systems that run jobs in parallel.

use std::ffi::OsString;

use anyhow::{Result, anyhow, bail};

/// Tells a variable of the environment.
pub(super) type Var<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// A share: its number, from 1, of how many, and the variable that says so.
type Found = (usize, usize, Option<&'static str>);

/// How a system numbers its shares.
struct System {
    name: &'static str,
    index: &'static str,
    total: &'static str,
    /// The number of the first.
    first: usize,
}

const SYSTEMS: [System; 4] = [
    System {
        name: "GitLab",
        index: "CI_NODE_INDEX",
        total: "CI_NODE_TOTAL",
        first: 1,
    },
    System {
        name: "CircleCI",
        index: "CIRCLE_NODE_INDEX",
        total: "CIRCLE_NODE_TOTAL",
        first: 0,
    },
    System {
        name: "Buildkite",
        index: "BUILDKITE_PARALLEL_JOB",
        total: "BUILDKITE_PARALLEL_JOB_COUNT",
        first: 0,
    },
    System {
        name: "Bazel",
        index: "TEST_SHARD_INDEX",
        total: "TEST_TOTAL_SHARDS",
        first: 0,
    },
];

const SLURM_ID: &str = "SLURM_ARRAY_TASK_ID";
const SLURM_COUNT: &str = "SLURM_ARRAY_TASK_COUNT";

/// Which share this is. Where two systems say so, as in a job of the one on a machine of the
/// other, the one that has several counts.
///
/// # Errors
///
/// No system says so, two say different things, or one says half of it or nonsense.
pub(super) fn share(var: Var<'_>) -> Result<Found> {
    let mut found = Vec::new();
    for system in &SYSTEMS {
        found.extend(system.share(var)?);
    }
    found.extend(slurm(var)?);
    let several: Vec<Found> = found.iter().copied().filter(|share| share.1 > 1).collect();
    let meant = if several.is_empty() { found } else { several };
    let Some(&first) = meant.first() else {
        let names: Vec<&str> = SYSTEMS.iter().map(|system| system.index).collect();
        bail!(
            "argument --shard: auto finds no share in the environment (none of {}, {SLURM_ID} is \
             set); name it as I/N",
            names.join(", ")
        );
    };
    if let Some(other) = meant
        .iter()
        .find(|share| (share.0, share.1) != (first.0, first.1))
    {
        let said = |share: &Found| {
            let from = share.2.unwrap_or_default();
            format!("{} of {} by {from}", share.0, share.1)
        };
        bail!(
            "argument --shard: auto finds two shares in the environment, {} and {}; name it as I/N",
            said(&first),
            said(other)
        );
    }
    Ok(first)
}

impl System {
    fn share(&self, var: Var<'_>) -> Result<Option<Found>> {
        let (index, total) = match (number(self.index, var)?, number(self.total, var)?) {
            (None, None) => return Ok(None),
            // GitLab says so where a job has no parallel ones, and gives it no number.
            (None, Some(1)) => (self.first, 1),
            (Some(index), Some(total)) => (index, total),
            (None, Some(_)) => return Err(half(self.total, self.index)),
            (Some(_), None) => return Err(half(self.index, self.total)),
        };
        let last = total
            .checked_add(self.first)
            .and_then(|end| end.checked_sub(1));
        let Some(index) = index.checked_sub(self.first).filter(|index| *index < total) else {
            bail!(
                "argument --shard: {} numbers shares from {} to {}, but {} is {index} and {} is \
                 {total}",
                self.name,
                self.first,
                last.unwrap_or(0),
                self.index,
                self.total
            );
        };
        Ok(Some((index + 1, total, Some(self.index))))
    }
}

/// A Slurm array: its numbers begin anywhere and may have a step. One with gaps has no order
/// that could be told from the inside.
fn slurm(var: Var<'_>) -> Result<Option<Found>> {
    let (id, count) = match (number(SLURM_ID, var)?, number(SLURM_COUNT, var)?) {
        (None, None) => return Ok(None),
        (Some(id), Some(count)) => (id, count),
        (None, Some(_)) => return Err(half(SLURM_COUNT, SLURM_ID)),
        (Some(_), None) => return Err(half(SLURM_ID, SLURM_COUNT)),
    };
    let min = "SLURM_ARRAY_TASK_MIN";
    let least = number(min, var)?.ok_or_else(|| half(SLURM_ID, min))?;
    let most = number("SLURM_ARRAY_TASK_MAX", var)?;
    let step = match (number("SLURM_ARRAY_TASK_STEP", var)?, most) {
        (Some(step), _) => step,
        (None, Some(most)) if count > 1 => most.saturating_sub(least) / (count - 1),
        (None, _) => 1,
    };
    let step = step.max(1);
    let even = most.is_none_or(|most| most.saturating_sub(least) / step + 1 == count);
    let place = id.checked_sub(least).filter(|from| from % step == 0);
    match place.map(|from| from / step) {
        Some(index) if even && index < count => Ok(Some((index + 1, count, Some(SLURM_ID)))),
        _ => bail!(
            "argument --shard: {SLURM_ID} {id} has no place among {count} tasks from {least} in \
             steps of {step}; name the share as I/N"
        ),
    }
}

fn half(there: &str, missing: &str) -> anyhow::Error {
    anyhow!("argument --shard: {there} is set, but {missing} is not; name the share as I/N")
}

fn number(name: &str, var: Var<'_>) -> Result<Option<usize>> {
    let Some(value) = var(name).filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    let number = value.to_str().and_then(|text| text.parse().ok());
    let value = value.to_string_lossy();
    match number {
        Some(number) => Ok(Some(number)),
        None => bail!("argument --shard: {name} is not a number: '{value}'"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(vars: &str) -> Result<Found> {
        let vars: Vec<(&str, &str)> = vars
            .split_whitespace()
            .filter_map(|word| word.split_once('='))
            .collect();
        share(&|name| {
            let value = vars.iter().find(|(known, _)| *known == name);
            value.map(|(_, value)| (*value).into())
        })
    }

    #[test]
    fn every_system_is_understood() {
        for (vars, want) in [
            ("CI_NODE_INDEX=2 CI_NODE_TOTAL=5", (2, 5)),
            ("CI_NODE_TOTAL=1", (1, 1)),
            ("TEST_SHARD_INDEX=0 TEST_TOTAL_SHARDS=3", (1, 3)),
            ("CIRCLE_NODE_INDEX=3 CIRCLE_NODE_TOTAL=4", (4, 4)),
            (
                "BUILDKITE_PARALLEL_JOB=0 BUILDKITE_PARALLEL_JOB_COUNT=2",
                (1, 2),
            ),
            (
                "SLURM_ARRAY_TASK_ID=8 SLURM_ARRAY_TASK_MIN=0 SLURM_ARRAY_TASK_MAX=12 \
                 SLURM_ARRAY_TASK_STEP=4 SLURM_ARRAY_TASK_COUNT=4",
                (3, 4),
            ),
            (
                "SLURM_ARRAY_TASK_ID=5 SLURM_ARRAY_TASK_MIN=1 SLURM_ARRAY_TASK_MAX=5 \
                 SLURM_ARRAY_TASK_COUNT=3",
                (3, 3),
            ),
            (
                "SLURM_ARRAY_TASK_ID=3 SLURM_ARRAY_TASK_MIN=2 SLURM_ARRAY_TASK_COUNT=2",
                (2, 2),
            ),
            // A job without parallel ones, on a machine of another system.
            (
                "CI_NODE_TOTAL=1 TEST_SHARD_INDEX=1 TEST_TOTAL_SHARDS=3",
                (2, 3),
            ),
        ] {
            let (index, of, _) = found(vars).unwrap();
            assert_eq!((index, of), want, "{vars}");
        }
    }

    #[test]
    fn halves_and_nonsense_are_errors() {
        for (vars, want) in [
            ("", "finds no share in the environment"),
            (
                "CI_NODE_TOTAL=3",
                "CI_NODE_TOTAL is set, but CI_NODE_INDEX is not",
            ),
            (
                "TEST_SHARD_INDEX=1",
                "TEST_SHARD_INDEX is set, but TEST_TOTAL_SHARDS is not",
            ),
            (
                "CI_NODE_INDEX=0 CI_NODE_TOTAL=3",
                "GitLab numbers shares from 1 to 3",
            ),
            ("CI_NODE_INDEX=4 CI_NODE_TOTAL=3", "but CI_NODE_INDEX is 4"),
            ("CIRCLE_NODE_INDEX=4 CIRCLE_NODE_TOTAL=4", "from 0 to 3"),
            (
                "CI_NODE_INDEX=x CI_NODE_TOTAL=3",
                "CI_NODE_INDEX is not a number: 'x'",
            ),
            ("CI_NODE_INDEX=1 CI_NODE_TOTAL=0", "CI_NODE_TOTAL is 0"),
            (
                "SLURM_ARRAY_TASK_ID=3 SLURM_ARRAY_TASK_MIN=1 SLURM_ARRAY_TASK_MAX=7 \
                 SLURM_ARRAY_TASK_STEP=1 SLURM_ARRAY_TASK_COUNT=3",
                "has no place among 3 tasks",
            ),
            (
                "SLURM_ARRAY_TASK_ID=3 SLURM_ARRAY_TASK_MIN=0 SLURM_ARRAY_TASK_STEP=4 \
                 SLURM_ARRAY_TASK_COUNT=3",
                "has no place among 3 tasks",
            ),
            (
                "CI_NODE_INDEX=1 CI_NODE_TOTAL=2 TEST_SHARD_INDEX=1 TEST_TOTAL_SHARDS=3",
                "1 of 2 by CI_NODE_INDEX and 2 of 3 by TEST_SHARD_INDEX",
            ),
        ] {
            let error = found(vars).unwrap_err().to_string();
            assert!(error.contains(want), "{vars}: {error}");
        }
    }
}
