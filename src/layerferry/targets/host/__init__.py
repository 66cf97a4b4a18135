"""The host script: the target's part of the conversation on a host that has an engine and a POSIX sh.

    words           what the other parts stand on
    cli      the way to an engine through its command
    api      the way to docker through its socket
    ctr             the way to containerd
    nerdctl         the way to a containerd that ctr does not reach
    containerd      what containerd holds, docker's own among them
    find            which engine, where, and by which way: the functions that each way has stand there
    inventory       what is here of the images that the client asks for
    archive         its frames, its load, and whether the engine made of it what was sent
    names           which an image gets and loses
    upkeep          what names stood for before, and images that are no longer needed; not always sent
    main            the verbs, the watch, the start
    patch, patching where layers are patched: what is sent with every push, and what goes when it is needed
    resuming        what is kept of large layers: it goes when there are some

`script` joins them, and the awk programs that they name, into the one text that is sent.
"""
