"""The parts of `layerferry receive`, the target's end of the conversation on a locked-down host.

What comes from the client is hostile until it is checked, and everything is checked before an engine sees a byte:

    wire        lines and frames, bounded in length, number and time
    expand      decompression, bounded
    zstd_frames what a zstd stream may be made of
    strict_tar  an archive of regular files with known names, nothing else
    documents   JSON as every parser reads it the same
    cargo       the archive in a private file, each blob against its digest; told again in our own words to the engine
    command     a program that we start, bounded in time and in what it says
    engine      docker or podman, through its command; what it says, and when it says nothing
    stock       what the engine has, as far as the policy lets the client know
    learning    which blobs a containerd store has, without a port that the client could reach
    registry    what its daemon pushes to for that
    policy      what the client may; from our command line and a root-owned file, never from the client
    journal     what was decided, before it is done
    locks       between sessions, waited for within a bound
    session     the conversation itself

It imports the standard library alone, so that it starts fast and audits easily.
"""
