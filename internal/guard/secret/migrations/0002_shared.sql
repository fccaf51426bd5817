-- +goose Up

-- Keys on their way from the server that made them to the others. sealed is emptied an hour later; shown stays, so that a server which
-- missed them knows.
create table shared_key (
    org     text   not null,
    kind    text   not null,
    number  bigint not null,
    shown   text   not null, -- public files, JSON
    sealed  text   not null, -- private files under the key of the secrets, '' once they are no longer handed out
    changed bigint not null,
    primary key (org, kind, number)
);
