"""The parts of `layerferry receive`, the target's end of the conversation on a locked-down host.

What comes from the client is hostile until it is checked, and all of it is checked before an engine gets a byte:

    program         the command line, the policy and the log, and the exit code
    opening         the preamble and the ask
    dialogue        the conversation itself
    old_files       what older images have of a layer, and what a recipe makes of it
    frames          lines and frames, bounded in length, number and time
    decompression   of archives and blobs, in bounded steps
    zstd_frames     the frames that a zstd stream may have
    strict_tar      an archive of regular files with known names, nothing else
    strict_json     JSON as every parser reads it the same
    archive_spool   the archive in a private file, each blob checked; the archive of ours that the engine gets
    byte_limits     the bytes that a push, and all of a day, may have
    command         a program that we start, bounded in time and in its output
    engine          docker or podman, by its command line
    visible_images  the images of the engine that the client may know of
    blob_digests    the blobs of a containerd store, without a port that the client could reach
    blob_registry   the registry that its daemon pushes to for that
    policy          what the client may do; from our command line and a root-owned file, never from the client
    signatures      what signatures a client shows, and which names they allow
    allowed_signers whose a signature is, and whether it is good, as ssh-keygen says
    newest_accepted the newest statement of each name, so that no older image comes back
    patterns        of image names, as a policy writes them
    decision_log    each decision, before it is carried out
    locks           between sessions, waited for within a bound
    deployment      the names, and the policy's command
    authorized_key  the line that makes a key good for this and nothing else
    refusal         the error that a client is told

It imports the standard library alone, so that it starts fast and audits easily.
"""
