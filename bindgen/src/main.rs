//! What `wasm-bindgen --target web --no-typescript` does, as a member of this workspace: its version is the one in Cargo.lock,
//! nothing is installed, and it compiles in a fraction of the time of the whole command-line tool.

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;
use wasm_bindgen_cli_support::Bindgen;

const USAGE: &str = "usage: bindgen INPUT.wasm OUT_DIR OUT_NAME";

fn main() -> ExitCode {
    let mut arguments = env::args_os().skip(1);
    let (Some(input), Some(out_dir), Some(out_name), None) =
        (arguments.next(), arguments.next(), arguments.next(), arguments.next())
    else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let Some(out_name) = out_name.to_str() else {
        eprintln!("bindgen: OUT_NAME must be Unicode text\n{USAGE}");
        return ExitCode::from(2);
    };
    let (input, out_dir) = (PathBuf::from(input), PathBuf::from(out_dir));

    let mut bindgen = Bindgen::new();
    let generated = bindgen
        .web(true)
        .and_then(|bindgen| bindgen.input_path(&input).out_name(out_name).typescript(false).generate(&out_dir));
    match generated {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The alternate form has the causes too.
            eprintln!("bindgen: cannot make {out_name} from {}: {error:#}", input.display());
            ExitCode::FAILURE
        }
    }
}
