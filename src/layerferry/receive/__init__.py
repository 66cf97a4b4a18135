"""The parts of `layerferry receive`, the target's end of the conversation on a locked-down host.

What comes from the client is hostile until it is checked, and everything is checked before an engine sees a byte:

    program         where it starts: options, policy, log, and how it ends
    dialogue        the conversation itself
    frames          lines and frames, bounded in length, number and time
    decompression   of what comes in, in bounded steps
    zstd_frames     what a zstd stream may be made of
    strict_tar      an archive of regular files with known names, nothing else
    strict_json     JSON as every parser reads it the same
    archive_spool   the archive in a private file, each blob against its digest; told again in our words to the engine
    byte_limits     what a push, and a day, may cost this host
    command         a program that we start, bounded in time and in what it says
    engine          docker or podman, through its command; what it says, and when it says nothing
    visible_images  what the engine has, as far as the policy lets the client know
    blob_digests    which blobs a containerd store has, without a port that the client could reach
    blob_registry   what its daemon pushes to for that
    policy          what the client may; from our command line and a root-owned file, never from the client
    patterns        of image names, as a policy writes them
    decision_log    what was decided, before it is done
    locks           between sessions, waited for within a bound
    deployment      the names, and the policy's command
    authorized_key  the line that makes a key good for this and nothing else
    refusal         what a client hears where it is refused

It imports the standard library alone, so that it starts fast and audits easily.
"""
