//! Turns the library into its model build, without `RUSTFLAGS`.

fn main() {
    println!("cargo::rustc-cfg=bulkman_loom");
    println!("cargo::rerun-if-changed=build.rs");
}
