"""Make a versioned bucket, unless it is there: make-bucket.py URL BUCKET; keys are in /run/secrets."""

import os
import sys
from pathlib import Path

import boto3
from botocore.config import Config

url, bucket = sys.argv[1:]
secrets = Path(os.environ.get("SECRETS", "/run/secrets"))
s3 = boto3.client(
    "s3",
    endpoint_url=url,
    region_name="us-east-1",
    aws_access_key_id=(secrets / "s3-access-key").read_text().strip(),
    aws_secret_access_key=(secrets / "s3-secret-key").read_text().strip(),
    config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 10}),
)
if bucket not in [each["Name"] for each in s3.list_buckets()["Buckets"]]:
    s3.create_bucket(Bucket=bucket)
s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
print(f"bucket {bucket} is there, and keeps versions")
