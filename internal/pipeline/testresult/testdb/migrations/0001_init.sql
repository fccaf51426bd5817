-- +goose Up
create table test_case (
    key           text   not null primary key,
    org           text   not null,
    repository_id text   not null,
    workflow      text   not null,
    job           text   not null, -- its key in the run
    suite         text   not null,
    package       text   not null,
    name          text   not null,
    first_seen    bigint not null
);
create index test_case_repository on test_case (repository_id, name);

create table test_report (
    org           text    not null,
    repository_id text    not null,
    workflow      text    not null,
    run_id        text    not null,
    job_id        text    not null,
    job           text    not null,
    attempt       integer not null,
    revision      text    not null,
    trust         text    not null,
    at            bigint  not null,
    detail        text    not null, -- JSON: counts, sources, problems
    primary key (run_id, job_id, attempt)
);

create table test_result (
    key      text    not null,
    run_id   text    not null,
    job_id   text    not null,
    attempt  integer not null,
    rank     integer not null, -- 0 failed, 1 flaky, 2 skipped, 3 passed: the order on pages
    outcome  text    not null,
    flaky    integer not null,
    duration bigint  not null, -- microseconds
    message  text    not null,
    detail   text    not null,
    file     text    not null,
    line     integer not null,
    log_line bigint  not null,
    at       bigint  not null,
    primary key (run_id, job_id, attempt, key)
);
create index test_result_history on test_result (key, at);
