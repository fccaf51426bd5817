-- +goose Up

-- Images that also lie in other registries. refers counts what refers to the image there.
create table artifact_copy (
    org        text    not null,
    digest     text    not null,
    place      text    not null, -- repository in the other registry
    repository text    not null, -- here
    refers     integer not null,
    referrers  text    not null, -- their digests, JSON
    verified   bigint  not null,
    failure    text    not null,
    attempts   integer not null,
    next       bigint  not null,
    primary key (org, digest, place)
);
