-- +goose Up
create table secret (
    org           text    not null,
    kind          text    not null, -- secret | variable
    repository_id text    not null, -- '' for all repositories
    environment   text    not null, -- '' for all environments
    name          text    not null, -- upper case
    value         text    not null, -- of a secret: sealed
    version       integer not null,
    by_name       text    not null,
    at            bigint  not null,
    primary key (org, kind, repository_id, environment, name)
);
