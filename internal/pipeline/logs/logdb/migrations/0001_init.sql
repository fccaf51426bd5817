-- +goose Up
create table pipeline_log (
    run_id  text    not null,
    job_id  text    not null,
    attempt integer not null,
    outline text    not null, -- JSON: what is where in the sealed part
    sealed  bigint  not null,
    removed bigint  not null, -- 0 while it is kept
    primary key (run_id, job_id, attempt)
);

create table pipeline_log_chunk (
    run_id  text    not null,
    job_id  text    not null,
    attempt integer not null,
    start   bigint  not null, -- offset of the first byte in the log
    bytes   bigint  not null,
    line    bigint  not null, -- number of the first line
    lines   bigint  not null,
    blob    text    not null,
    place   bigint  not null, -- offset in the blob
    stored  bigint  not null, -- bytes in the blob
    primary key (run_id, job_id, attempt, start)
);
create index pipeline_log_chunk_blob on pipeline_log_chunk (blob);

-- Blobs that nothing refers to any more and that are still to be deleted.
create table pipeline_log_waste (
    blob text not null primary key
);
