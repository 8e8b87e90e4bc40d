//! Parity with a MAE in `PyTorch`: prediction, latent, loss, gradients, twenty losses and the weights trained by them. The
//! script that made the numbers lies beside them.

use patchstream_model::golden::Case;
use patchstream_model::{Device, MaeConfig, MatmulPrecision, PixelScale, Target};
use std::path::{Path, PathBuf};

/// Every case of the repository and of the directory that the environment names: JSON beside its tensors.
fn cases() -> Vec<(PathBuf, PathBuf)> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/golden");
    let further = std::env::var_os("PATCHSTREAM_GOLDEN").map(PathBuf::from);
    let mut cases = Vec::new();
    for folder in [Some(own), further].into_iter().flatten() {
        let listing = fs_err::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        for entry in listing {
            let path = entry.expect("the folder can be listed").path();
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            if name.starts_with("mae_") && path.extension().is_some_and(|extension| extension == "json") {
                cases.push((path.clone(), path.with_extension("safetensors")));
            }
        }
        assert!(!cases.is_empty(), "{} has no mae_*.json", folder.display());
    }
    cases.sort();
    cases
}

#[test]
fn golden_numbers_of_every_case() {
    for (json, safetensors) in cases() {
        let read = |path: &Path| fs_err::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let (meta, tensors) = (read(&json), read(&safetensors));
        let case = Case::read(&meta, &tensors).unwrap_or_else(|error| panic!("{}: {error}", json.display()));
        let deviations =
            case.deviations(|config| Device::Cpu.open(MatmulPrecision::Float32, config, PixelScale::IMAGENET, 0));
        let deviations = deviations.unwrap_or_else(|error| panic!("{}: {error}", json.display()));
        // Two targets, each with six numbers of the forward pass, twenty losses, and every tensor twice.
        assert!(deviations.len() > 2 * (6 + 20 + 2 * 30), "{}: {} numbers", json.display(), deviations.len());
        for deviation in &deviations {
            assert!(deviation.is_right(), "{}: {deviation:?}", json.display());
        }
    }
}

/// A check that anything passes would be none: a model that is trained on the other target must show.
#[test]
fn golden_numbers_tell_another_model() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/golden");
    let read = |name: &str| fs_err::read(folder.join(name)).expect("a case of the repository");
    let (meta, tensors) = (read("mae_tiny.json"), read("mae_tiny.safetensors"));
    let case = Case::read(&meta, &tensors).expect("a case");
    let deviations = case.deviations(|config| {
        let target = if config.target == Target::Pixels { Target::NormalizedPatches } else { Target::Pixels };
        Device::Cpu.open(MatmulPrecision::Float32, MaeConfig { target, ..config }, PixelScale::IMAGENET, 0)
    });
    let wrong = deviations.expect("both targets compute").into_iter().filter(|deviation| !deviation.is_right());
    let wrong: Vec<String> = wrong.map(|deviation| deviation.what).collect();
    assert!(wrong.iter().any(|what| what == "loss") && wrong.iter().any(|what| what.starts_with("gradient of")));
    // What no target is part of stays right.
    assert!(!wrong.iter().any(|what| what.contains("latent")));
}
