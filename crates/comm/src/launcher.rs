//! Whether this process is one of several, as the variables of what started it say.
//!
//! Invariant: only variables are read, so that a process which was started wrongly can say so at once, whatever it was
//! built with.

use crate::CommError;

/// What launchers there are, by the variables that they set for every process: how many there are, and which this is.
const LAUNCHERS: [(&str, &str, &str); 4] = [
    ("Open MPI", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
    ("MPICH", "PMI_SIZE", "PMI_RANK"),
    ("PMIx", "PMIX_SIZE", "PMIX_RANK"),
    ("torchrun", "WORLD_SIZE", "RANK"),
];

/// Slurm sets its variables for a shell that `salloc` opens, too, which is one process: only a step of `srun` counts.
const SLURM: [&str; 3] = ["SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "SLURM_STEP_ID"];

/// A process that a launcher started with others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Launched {
    /// What started it.
    pub launcher: &'static str,
    /// How many processes it started.
    pub size: usize,
    /// Which of them this is.
    pub rank: usize,
}

/// What started this process, if that started more than one. `variable` looks one up, as `std::env::var` does.
pub fn launched(variable: &dyn Fn(&str) -> Option<String>) -> Option<Launched> {
    let number = |name: &str| variable(name)?.trim().parse::<usize>().ok();
    let of = |(launcher, size, rank): (&'static str, &str, &str)| {
        Some(Launched { launcher, size: number(size)?, rank: number(rank)? })
    };
    let [tasks, process, step] = SLURM;
    let slurm = || variable(step).and_then(|_| of(("Slurm", tasks, process)));
    LAUNCHERS.into_iter().find_map(of).or_else(slurm).filter(|launched| launched.size > 1)
}

impl Launched {
    /// The refusal of a build without an engine.
    pub fn without_engine(self) -> CommError {
        CommError::WithoutEngine { launcher: self.launcher, size: self.size }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Option<(&'static str, usize, usize)> {
        let variable = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_string())
        };
        launched(&variable).map(|Launched { launcher, size, rank }| (launcher, size, rank))
    }

    #[test]
    fn a_launcher_is_known_by_its_variables() {
        for (launcher, size, rank) in LAUNCHERS {
            assert_eq!(of(&[(size, "4"), (rank, "3")]), Some((launcher, 4, 3)));
            assert_eq!(of(&[(size, "1"), (rank, "0")]), None, "alone");
            assert_eq!(of(&[(size, "4")]), None, "of which it is none");
        }
        let step = [("SLURM_STEP_ID", "0"), ("SLURM_STEP_NUM_TASKS", "2"), ("SLURM_PROCID", "1")];
        assert_eq!(of(&step), Some(("Slurm", 2, 1)));
        assert_eq!(of(&step[1..]), None, "a shell of an allocation is no step");
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[("PMI_SIZE", "many"), ("PMI_RANK", "0")]), None);
    }
}
