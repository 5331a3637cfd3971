SELECT 'public', pg_get_userbyid(n.nspowner),
    EXISTS (
        SELECT FROM aclexplode(n.nspacl) a
        WHERE a.privilege_type = 'CREATE' AND pg_get_userbyid(a.grantee) = @WEB_ACCESS@
    ),
    coalesce(bool_or(d.complete) FILTER (WHERE d.kind = 'r'), false),
    coalesce(bool_or(d.complete) FILTER (WHERE d.kind = 'S'), false)
FROM pg_namespace n
LEFT JOIN (
    SELECT defaclnamespace AS namespace, defaclobjtype AS kind,
        NOT EXISTS (
            SELECT privilege_type
            FROM aclexplode(acldefault(lower(defaclobjtype::text)::"char", defaclrole))
            EXCEPT
            SELECT privilege_type FROM aclexplode(defaclacl)
            WHERE is_grantable AND pg_get_userbyid(grantee) = @PRIVILEGED@
        ) AS complete
    FROM pg_default_acl
    WHERE defaclobjtype IN ('r', 'S') AND pg_get_userbyid(defaclrole) = current_user
) d ON d.namespace = n.oid
WHERE n.nspname = 'public'
GROUP BY n.oid, n.nspowner, n.nspacl
