//! Writes the inputs that each reader takes into `corpus/NAME`, for its fuzz target to begin with.

use std::fs;
use std::path::Path;

fn main() {
    for target in remat_hostile::TARGETS {
        let folder = Path::new("corpus").join(target.name);
        fs::create_dir_all(&folder).expect("a folder here");
        for (number, input) in (target.seeds)().iter().enumerate() {
            fs::write(folder.join(format!("seed-{number}")), input).expect("a file there");
        }
    }
}
