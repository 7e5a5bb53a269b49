//! Turns the library into its build for shuttle, without `RUSTFLAGS`.

fn main() {
    println!("cargo::rustc-cfg=bulkman_shuttle");
    println!("cargo::rerun-if-changed=build.rs");
}
