"""What users of Python import, through `artfs`.

    session     settings in, catalog and store out          ambient   the process's session and current run
    artifact    Artifact: what can be done                  facts     Artifact: what is known
    draft       an artifact before it is logged             pathmap   what it holds, by path
    newfile     a file written straight into a draft        ingest    files into a draft, a draft to a version
    version     an artifact that is logged                  checkout  a version into a directory
    manifest    its entries, as users see them
    run         init() and Run                              tracking  a run while it runs
    public      Api                                         recorded  runs as the catalog has them
    collection  collections, types, registries              filters   of lists
    paging      lists in pages                              values    what runs are told
    telling     how far a call is: a callback, or a bar      loggable  what runs log
"""
