//! Compiles `proto/` without protoc: once for the server, where a snapshot is bytes that are
//! encoded once and shared by every stream, and once for clients, where it is a message.

use std::error::Error;
use std::path::PathBuf;

const SERVICES: [&str; 6] = [
    "proto/entitled/v1/account_service.proto",
    "proto/entitled/v1/catalog_service.proto",
    "proto/entitled/v1/entitlement_service.proto",
    "proto/entitled/v1/key_service.proto",
    "proto/entitled/v1/purchase_service.proto",
    "proto/entitled/v1/support_service.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed=migrations");
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_source_info(true).include_imports(true);
    compiler.open_files(SERVICES)?;
    // As compiled: the types know fewer options than there are.
    let described = compiler.encode_file_descriptor_set();
    std::fs::write(out.join("descriptors.bin"), described)?;
    let descriptors = compiler.file_descriptor_set();

    let server = out.join("server");
    std::fs::create_dir_all(&server)?;
    tonic_prost_build::configure()
        .out_dir(&server)
        .build_client(false)
        .codec_path("crate::grpc::codec::SmallBufferCodec")
        .extern_path(
            ".entitled.v1.EntitlementSnapshot",
            "crate::grpc::shared_snapshot::SharedSnapshot",
        )
        .extern_path(
            ".entitled.v1.AccountChange",
            "crate::grpc::shared_snapshot::SharedChange",
        )
        .compile_fds(descriptors.clone())?;

    let client = out.join("client");
    std::fs::create_dir_all(&client)?;
    tonic_prost_build::configure()
        .out_dir(&client)
        .build_server(false)
        .compile_fds(descriptors)?;
    Ok(())
}
